"""Public helpers for tests: a running gate, and names without a name server."""
