"""Hand everything that a gate holds over to the one that takes its place."""
