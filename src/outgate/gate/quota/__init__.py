"""Hold apps to their quotas: charge requests, stop or delay bytes, warn, and keep what was used."""
