"""Look names up for programs, under policy."""
