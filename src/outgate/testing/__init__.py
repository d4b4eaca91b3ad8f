"""Public helpers for tests: a running gate and small peers."""
