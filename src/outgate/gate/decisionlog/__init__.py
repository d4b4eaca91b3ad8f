"""The decision log: what its lines are, and how they come into the file."""
