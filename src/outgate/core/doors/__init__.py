"""What is said at a door: SOCKS5 and HTTP CONNECT, read and written as plain bytes."""
