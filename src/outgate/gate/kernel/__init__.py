"""Small adapters to the operating system, each with one job; none knows of leases, apps or policies."""
