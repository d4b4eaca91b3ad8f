"""Show a gate in a browser: who connects where, how much, and why something was refused."""
