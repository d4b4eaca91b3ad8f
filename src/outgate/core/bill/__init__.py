"""Decide what is billed: windows, who is charged, prices, and totals that add up."""
