"""Public helpers for tests: a running gate, names without a name server, one raw channel."""
