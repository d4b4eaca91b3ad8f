"""Pass on what sockets have moved, each byte once: to the counts of apps, the quotas and the ledger."""
