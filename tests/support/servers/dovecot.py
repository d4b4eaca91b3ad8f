"""Dovecot as the mail server of the world: POP3 and IMAP, plain and over TLS, one user with three messages."""

from __future__ import annotations

import pwd
import shutil
from pathlib import Path

from support.namespaces import Namespace
from support.servers.process import Server

USER, PASSWORD = "reader", "let me in"
SUBJECTS = ("First light", "Second thoughts", "Third time")

_CONFIG = """\
protocols = imap pop3
listen = *, ::
base_dir = {folder}/run
log_path = {folder}/dovecot-mail.log
ssl = yes
ssl_cert = <{certificate}
ssl_key = <{key}
disable_plaintext_auth = no
first_valid_uid = 1
mail_location = maildir:{folder}/mail/%u
passdb {{
  driver = passwd-file
  args = scheme=PLAIN {folder}/users
}}
userdb {{
  driver = static
  args = uid={owner} gid={owner} home={folder}/mail/%u
}}
# Whom the mail server of submissions asks (see postfix.py).
service auth {{
  unix_listener auth-postfix {{
    mode = 0666
  }}
}}
service imap-login {{
  chroot =
}}
service pop3-login {{
  chroot =
}}
"""


def start(namespace: Namespace, folder: Path, certificate: Path, key: Path) -> Server:
    """Serve on ports 110, 143, 993 and 995 of every address of the namespace."""
    owner = pwd.getpwnam("mail")
    mailbox = folder / "mail" / USER
    for part in ("cur", "new", "tmp"):
        (mailbox / part).mkdir(parents=True)
    for number, subject in enumerate(SUBJECTS, 1):
        # The date in a maildir file's name is what POP3 and IMAP order messages by.
        (mailbox / "new" / f"{1_700_000_000 + number}.M{number}.mail").write_text(
            f"From: Editor <editor@outgate.test>\nTo: {USER}@outgate.test\nSubject: {subject}\n"
            f"Date: Tue, 14 Nov 2023 22:13:2{number} +0000\nMessage-ID: <mail-{number}@outgate.test>\n\n"
            f"This is message {number}.\n.A line with a leading dot.\n"
        )
    for path in [folder / "mail", *(folder / "mail").rglob("*")]:
        shutil.chown(path, owner.pw_uid, owner.pw_gid)
    (folder / "users").write_text(f"{USER}:{{PLAIN}}{PASSWORD}\n")
    config = folder / "dovecot.conf"
    config.write_text(_CONFIG.format(folder=folder, certificate=certificate, key=key, owner=owner.pw_name))
    return Server("dovecot", namespace, folder, ["dovecot", "-F", "-c", str(config)])
