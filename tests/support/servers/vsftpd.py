"""vsftpd as the file server of the world: anonymous, reading and uploading, plain and over TLS, IPv4 and IPv6."""

from __future__ import annotations

import shutil
from pathlib import Path

from support.namespaces import Namespace
from support.servers.process import Server

#: What lies there to be read: name → content.
FILES = {"readme.txt": b"hello from vsftpd\n", "large.bin": bytes(range(256)) * 4096}
#: The folder that takes uploads.
INCOMING = "incoming"

_CONFIG = """\
background=NO
listen=NO
listen_ipv6=YES
anonymous_enable=YES
local_enable=NO
anon_root={folder}/ftp
no_anon_password=YES
write_enable=YES
anon_upload_enable=YES
anon_mkdir_write_enable=YES
# Uploads stay readable, so that the program can fetch back what it stored.
anon_umask=022
pasv_enable=YES
# Namespaces of its own, which it makes by default, are not to be had in every container.
isolate=NO
isolate_network=NO
seccomp_sandbox=NO
secure_chroot_dir={folder}/empty
vsftpd_log_file={folder}/vsftpd-transfers.log
xferlog_enable=YES
ssl_enable=YES
allow_anon_ssl=YES
force_anon_logins_ssl=NO
force_anon_data_ssl=NO
# ftplib makes a new TLS session for each data connection.
require_ssl_reuse=NO
rsa_cert_file={certificate}
rsa_private_key_file={key}
ssl_ciphers=HIGH
"""


def start(namespace: Namespace, folder: Path, certificate: Path, key: Path) -> Server:
    """Serve on port 21 of every address of the namespace."""
    root = folder / "ftp"
    (root / INCOMING).mkdir(parents=True)
    (folder / "empty").mkdir()
    for name, content in FILES.items():
        (root / name).write_bytes(content)
    root.chmod(0o555)  # it refuses a root that its anonymous user could write to
    shutil.chown(root / INCOMING, "ftp", "nogroup")
    config = folder / "vsftpd.conf"
    config.write_text(_CONFIG.format(folder=folder, certificate=certificate, key=key))
    return Server("vsftpd", namespace, folder, ["vsftpd", str(config)])
