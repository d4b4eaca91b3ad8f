"""Carry the bytes of TCP programs that do not hold the kernel's socket."""
