"""Postfix as people submit mail to it: port 587 with STARTTLS and a password, 25 for other servers, 2525 for all."""

from __future__ import annotations

import pwd
import shutil
from pathlib import Path

from support.namespaces import Namespace
from support.servers.process import Server

_BIN = "/usr/lib/postfix/sbin"

_MAIN = """\
compatibility_level = 3.6
queue_directory = {folder}/queue
data_directory = {folder}/data
maillog_file = {folder}/mail.log
maillog_file_prefixes = {folder}
myhostname = {name}
mydestination =
mynetworks =
inet_interfaces = {addresses}
inet_protocols = all
alias_maps =
# Whatever is accepted has arrived: nobody reads this mail.
default_transport = discard
relay_transport = discard
smtpd_tls_cert_file = {certificate}
smtpd_tls_key_file = {key}
smtpd_tls_security_level = may
smtpd_tls_auth_only = yes
# Passwords are asked of Dovecot, as most who run Postfix do.
smtpd_sasl_type = dovecot
smtpd_sasl_path = {sasl}
smtpd_relay_restrictions = permit_sasl_authenticated, reject
"""
# service type private unprivileged chroot wakeup maxproc command; no chroot, as its files would have to be copied.
_MASTER = """\
25         inet  n - n -     - smtpd
2525       inet  n - n -     - smtpd -o mynetworks=0.0.0.0/0,[::]/0 -o smtpd_relay_restrictions=permit_mynetworks,reject
587        inet  n - n -     - smtpd -o smtpd_tls_security_level=encrypt -o smtpd_sasl_auth_enable=yes
postlog    unix-dgram n - n - 1 postlogd
cleanup    unix  n - n -     0 cleanup
qmgr       unix  n - n 300   1 qmgr
rewrite    unix  - - n -     - trivial-rewrite
bounce     unix  - - n -     0 bounce
defer      unix  - - n -     0 bounce
trace      unix  - - n -     0 bounce
error      unix  - - n -     - error
retry      unix  - - n -     - error
discard    unix  - - n -     - discard
proxymap   unix  - - n -     - proxymap
tlsmgr     unix  - - n 1000? 1 tlsmgr
anvil      unix  - - n -     1 anvil
scache     unix  - - n -     1 scache
"""
#: Directories of the queue, which belong to Postfix, with their modes (Debian's /etc/postfix/postfix-files).
_QUEUE = {
    "active": 0o700, "bounce": 0o700, "corrupt": 0o700, "defer": 0o700, "deferred": 0o700, "flush": 0o700,
    "hold": 0o700, "incoming": 0o700, "private": 0o700, "saved": 0o700, "trace": 0o700, "public": 0o710,
}  # fmt: skip


def start(
    namespace: Namespace,
    folder: Path,
    name: str,
    addresses: tuple[str, ...],
    sasl: Path,
    certificate: Path,
    key: Path,
) -> Server:
    """Serve on ports 25, 587 and 2525 of these addresses.

    :param sasl: Dovecot's socket that tells whether a password is right.
    """
    config = folder / "etc"
    config.mkdir()
    (config / "main.cf").write_text(
        _MAIN.format(
            folder=folder, name=name, addresses=", ".join(addresses), sasl=sasl, certificate=certificate, key=key
        )
    )
    (config / "master.cf").write_text(_MASTER)
    owner = pwd.getpwnam("postfix")
    for part, mode in {"data": 0o700, **{f"queue/{name}": mode for name, mode in _QUEUE.items()}}.items():
        (folder / part).mkdir(parents=True, exist_ok=True)
        (folder / part).chmod(mode)
        shutil.chown(folder / part, owner.pw_uid)
    (folder / "queue/pid").mkdir()
    # -d lets its output go to our log (master(8)).
    return Server("postfix", namespace, folder, [f"{_BIN}/master", "-c", str(config), "-d"])
