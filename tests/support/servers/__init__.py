"""Real servers from Debian packages, each started in the foreground out of a folder of its own."""
