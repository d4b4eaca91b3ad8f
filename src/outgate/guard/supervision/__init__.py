"""Answer the system calls of guarded programs: the guard's own process, beside them."""
