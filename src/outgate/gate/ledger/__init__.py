"""Keep the ledger: what every app has moved, in windows that are sealed and never change again."""
