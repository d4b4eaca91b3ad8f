"""Read a configuration, check it, and hold it."""
