"""Be a name server to programs: judge what they ask, and ask the host's own for them."""
