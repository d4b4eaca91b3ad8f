"""Sockets that travel: pickled in one process, opened in another of the same app."""
