"""Go on after a gate that died: what it writes down while it lives, and what the next one makes of that."""
