"""Other ways out than the host's own: by which proxy, from which address, and what is said to a proxy."""
