"""Look at a gate from outside, for commands and console alike: ask it, read its decision log and its ledger."""
