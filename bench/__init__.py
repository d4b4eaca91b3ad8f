"""Measure what a program pays for going out through the gate, against native sockets in the same run."""
