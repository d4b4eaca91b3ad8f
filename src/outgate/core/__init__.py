"""Decide: pure functions on plain data. No socket, asyncio, clock, file or thread in this room."""
