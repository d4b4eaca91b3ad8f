"""The standard library's own XML-RPC server: functions that add, echo, and fail; run as python rpc.py ADDRESS PORT."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING
from xmlrpc.server import SimpleXMLRPCServer

if TYPE_CHECKING:
    from support.namespaces import Namespace
    from support.servers.process import Server

PORT = 8000


def start(namespace: Namespace, folder: Path, address: str) -> Server:
    """Serve on port 8000 of an address."""
    from support.servers.process import Server

    return Server("rpc", namespace, folder, [sys.executable, str(Path(__file__)), address, str(PORT)])


def serve(address: str, port: int) -> None:
    """Serve until the process is ended."""
    with SimpleXMLRPCServer((address, port), logRequests=False, allow_none=True) as server:
        server.register_introspection_functions()
        server.register_multicall_functions()
        server.register_function(lambda *numbers: sum(numbers), "add")
        server.register_function(lambda data: data, "echo")
        server.register_function(lambda: 1 // 0, "fail")
        server.serve_forever()


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]))
