"""Decide what a guarded program's system calls may be: the filter, addresses as the kernel has them, packets."""
