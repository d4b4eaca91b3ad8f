"""Metrics for Prometheus: what is counted beside the gate's own records, how it is written down, who may fetch it."""
