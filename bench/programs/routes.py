"""Open a connection natively, or through a peer with the client library that programs use for it.

Outgate needs no word of this: its way is the native one, in a process that has its client loaded.
"""

import contextlib
import socket
from typing import Any, Callable, Dict, List, Optional

#: Opens a connection to a host and a port.
Opener = Callable[[str, int], socket.socket]
#: A peer's protocol, its port, the name of the library that speaks to it, and a name and password where it wants them;
#: ``None``: natively.
Route = Optional[List[Any]]


def native(host: str, port: int) -> socket.socket:
    """Open as every program does."""
    sock = socket.socket()
    sock.connect((host, port))
    return sock


def _pysocks(protocol: str, proxy: int, name: Optional[str] = None, password: Optional[str] = None) -> Opener:
    import socks

    kind = {"socks5": socks.SOCKS5, "http": socks.HTTP}[protocol]

    def open_by(host: str, port: int) -> socket.socket:
        sock = socks.socksocket()
        sock.set_proxy(kind, "127.0.0.1", proxy, username=name, password=password)
        sock.connect((host, port))
        return sock

    return open_by


def _python_socks(protocol: str, proxy: int, name: str = "", password: str = "") -> Opener:
    from python_socks.sync import Proxy

    login = f"{name}:{password}@" if name else ""
    made = Proxy.from_url(f"{protocol}://{login}127.0.0.1:{proxy}")
    return lambda host, port: made.connect(dest_host=host, dest_port=port)


def _fixed(ports: Dict[str, int]) -> Opener:
    """A proxy that has a port of its own for each destination."""
    return lambda _, port: native("127.0.0.1", ports[str(port)])


def opener(route: Route) -> Opener:
    """Return what opens connections that way."""
    if route is None or route[0] == "sandlock":  # which started this process
        return native
    protocol, port, library, *login = route
    if protocol == "tethered":
        import tethered

        tethered.activate(allow=["127.0.0.1"], allow_localhost=False)
        return native
    if protocol == "fixed":
        return _fixed(port)
    return {"PySocks": _pysocks, "python-socks": _python_socks}[library](protocol, port, *login)


def errors(route: Route) -> "tuple[type[Exception], ...]":
    """Return what the library raises where an open fails."""
    found: List[type] = [OSError]
    if route is not None and route[2] == "python-socks":
        with contextlib.suppress(ImportError):
            import python_socks

            found += [python_socks.ProxyError, python_socks.ProxyConnectionError, python_socks.ProxyTimeoutError]
    return tuple(found)
