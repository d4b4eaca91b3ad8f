"""Name what pickles of sockets call when they are opened. These names stay, and take what they took before.

In a process that may not import this module pickle says "No module named 'outgate'": ``pip install outgate``, which
brings nothing else along, is what is missing there.
"""

from outgate.client.travel.opening import pair, raw, reader, socket, text, writer

__all__ = ["pair", "raw", "reader", "socket", "text", "writer"]
