"""Stand in for sockets whose bytes the gate carries."""
