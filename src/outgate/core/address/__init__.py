"""What an address is: one table of the ranges, one decoder, one reader of destinations."""
