"""Pass sockets on to the gates of other hosts, and know those gates by certificates."""
