"""CPython's own tests, run through a gate and natively."""
