"""Lead connections out by the way that the configuration says."""
