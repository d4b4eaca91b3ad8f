"""Contain: start a program where nothing but sockets from the gate leads out."""
