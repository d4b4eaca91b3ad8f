"""Speak TLS where the gate itself is the client of it, and say whom to trust."""
