"""Hold what several gates share: the line to Redis or Valkey, and what is kept there."""
