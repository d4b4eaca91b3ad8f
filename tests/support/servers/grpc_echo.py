"""A gRPC server that sends back what it gets, a message or a stream; run as python grpc_echo.py ADDRESS PORT."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from support.namespaces import Namespace
    from support.servers.process import Server

PORT = 50051


def start(namespace: Namespace, folder: Path, address: str) -> Server:
    """Serve on port 50051 of an address."""
    from support.servers.process import Server

    return Server("grpc", namespace, folder, [sys.executable, str(Path(__file__)), address, str(PORT)])


def serve(address: str, port: int) -> None:
    """Serve until the process is ended."""
    import grpc

    calls = {
        "Once": grpc.unary_unary_rpc_method_handler(lambda message, _: message),
        "Each": grpc.stream_stream_rpc_method_handler(lambda messages, _: messages),
    }
    server = grpc.server(ThreadPoolExecutor(8))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("outgate.test.Echo", calls),))
    server.add_insecure_port(f"{address}:{port}")
    server.start()
    server.wait_for_termination()


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]))
