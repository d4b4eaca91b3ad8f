"""What a name is: its one form, the suffixes, and for how long its addresses are remembered."""
