"""The doors of a gate: listeners at which foreign programs ask for connections by SOCKS5 or HTTP CONNECT."""
