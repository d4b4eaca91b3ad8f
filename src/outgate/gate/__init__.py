"""Do: the per-host service. The only room with an event loop."""
