"""nginx as the web server of the world: HTTP and HTTPS, HTTP/2, keep-alive, a large file, an upload, redirects."""

from __future__ import annotations

import hashlib
from pathlib import Path

from support.namespaces import Namespace
from support.servers.process import Server

#: Bytes of ``/large``: more than any socket buffer takes at once.
LARGE = 8 << 20

_CONFIG = """\
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/nginx-error.log info;
user www-data;
events {{ worker_connections 256; }}
http {{
    access_log {folder}/nginx-access.log;
    client_max_body_size 64m;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    default_type text/plain;
    server {{
{listen}
        ssl_certificate {certificate};
        ssl_certificate_key {key};
        root {folder}/www;
        location = /scheme {{ return 200 "$scheme\\n"; }}
        # How many requests came on this connection: 2 for the second one of a kept-alive connection.
        location = /nth {{ return 200 "$connection_requests\\n"; }}
        location = /moved {{ return 302 $scheme://$host/hello; }}
        # A redirect to wherever the client says: what an attacker's server does.
        location = /to {{ return 302 $arg_url; }}
        # A location that answers by itself does not wait for the body; one that passes it on does.
        location = /upload {{ proxy_pass http://unix:{folder}/count.sock; }}
    }}
    server {{
        listen unix:{folder}/count.sock;
        location / {{ return 200 "got $content_length\\n"; }}
    }}
}}
"""


def large_file() -> bytes:
    """Make the content of ``/large``: the same bytes each time, and not compressible."""
    return hashlib.shake_128(b"outgate").digest(LARGE)


def start(namespace: Namespace, folder: Path, addresses: tuple[str, ...], certificate: Path, key: Path) -> Server:
    """Serve on ports 80 and 443 of these addresses."""
    www = folder / "www"
    www.mkdir(parents=True)
    (www / "hello").write_text("hello from nginx\n")
    (www / "large").write_bytes(large_file())
    hosts = [f"[{address}]" if ":" in address else address for address in addresses]
    listen = "\n".join(f"        listen {host}:80;\n        listen {host}:443 ssl http2;" for host in hosts)
    config = folder / "nginx.conf"
    config.write_text(_CONFIG.format(folder=folder, listen=listen, certificate=certificate, key=key))
    return Server("nginx", namespace, folder, ["nginx", "-c", str(config), "-p", str(folder)])
