"""List, fetch and store files with ftplib in passive mode: python ftp_transfer.py HOST [--tls]."""

import ftplib
import hashlib
import io
import ssl
import sys
import uuid

host, tls = sys.argv[1], "--tls" in sys.argv
server = ftplib.FTP_TLS(host, timeout=30, context=ssl.create_default_context()) if tls else ftplib.FTP(host, timeout=30)
with server:
    print(server.login()[:3])
    if tls:
        print(server.prot_p()[:3], server.sock.version() in ("TLSv1.2", "TLSv1.3"))
    print(sorted(server.nlst()))
    content = bytearray()
    server.retrbinary("RETR large.bin", content.extend)
    print(len(content), hashlib.sha256(content).hexdigest()[:16])
    server.cwd("incoming")
    name = uuid.uuid4().hex
    data = hashlib.shake_128(b"ftplib").digest(1_000_000)
    server.storbinary(f"STOR {name}", io.BytesIO(data))
    again = bytearray()
    server.retrbinary(f"RETR {name}", again.extend)
    print(again == data)
