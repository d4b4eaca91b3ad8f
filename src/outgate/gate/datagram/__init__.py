"""Carry datagrams, and judge the destination of each."""
