"""Keep what a gate has of its fleet in a folder under its state: certificates, keys, and invitations.

::

    fleet/ca.pem        the authority's certificate: whoever it has signed is a gate of the fleet
    fleet/ca.key        its key, at the one gate that issues certificates
    fleet/gate.pem      this gate's key and certificate, in one file, so that they change together
    fleet/fleet.json    where certificates are issued, and at that gate which are out
    fleet/invites/HASH  a join token that has been made and not used: its removal is its use

Each file is written anew beside itself, and takes its place by rename(2).
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import secrets
import ssl
import time
from collections.abc import Iterator
from typing import Any

from outgate.core.fleet import terms
from outgate.core.fleet.token import SECRET_SIZE, Token
from outgate.errors import ConfigError
from outgate.gate.fleet import authority
from outgate.gate.fleet.authority import Certificate

_INVITES = "invites"


class Folder:
    """What a gate has of its fleet.

    :param state: the gate's folder for what outlives it.
    """

    def __init__(self, state: str) -> None:
        self.path = os.path.join(state, "fleet")

    @property
    def is_issuer(self) -> bool:
        """Whether certificates are issued here."""
        return os.path.exists(self._at("ca.key"))

    # --- beginning, and joining ---------------------------------------------------------------------------------------

    def begin(self, name: str, now: float) -> None:
        """Begin a fleet, of which this is the first gate and issues certificates.

        :raises ConfigError: there is one here already, or it cannot be written down.
        """
        with self._locked():
            if os.path.exists(self._at("ca.pem")):
                raise ConfigError(f"{self.path}: this gate has a fleet already; remove that folder to leave it")
            key, certificate = authority.begin(now)
            own, asked = authority.request()
            signed = authority.issue(key, certificate, asked, name, now)
            self._write("ca.key", key)
            self._write("gate.pem", own + signed)
            self._note({"issuer": name, "at": "", "issued": {name: authority.read(signed).ends}})
            self._write("ca.pem", certificate)

    def join(self, token: Token, ca: bytes, key: bytes, certificate: bytes) -> None:
        """Write down what came of a join token."""
        with self._locked():
            self._write("gate.pem", key + certificate)
            self._note({"issuer": token.issuer, "at": token.at})
            self._write("ca.pem", ca)

    def renew(self, key: bytes, certificate: bytes) -> None:
        """Take another certificate for this gate's."""
        self._write("gate.pem", key + certificate)

    # --- what the gate that issues does -------------------------------------------------------------------------------

    def invite(self, name: str, at: str, now: float, lasts: float, again: bool = False) -> Token:
        """Make a join token.

        :param name: of the gate that will join.
        :param at: ``HOST:PORT`` where this gate is reached.
        :param lasts: seconds.
        :param again: though a gate of that name has a certificate that is good: its host is being made anew.
        :raises ConfigError: certificates are issued elsewhere; or there is a gate of that name.
        """
        with self._locked():
            own = self._issuer()
            ends = self._noted()["issued"].get(name, 0)
            if name == own:
                raise ConfigError(f"{name}: that is this gate's own name; the one that joins needs another")
            if ends > now and not again:
                raise ConfigError(
                    f"{name}: a gate of that name has a certificate until {_day(ends)}; two may not share one. "
                    "If its host is being made anew, say --again"
                )
            secret = secrets.token_hex(SECRET_SIZE)
            fingerprint = authority.read(self._read("ca.pem")).fingerprint
            token = Token(name, own, at, fingerprint, secret, int(now + lasts))
            if not os.path.isdir(self._at(_INVITES)):
                os.mkdir(self._at(_INVITES), 0o700)
                self._give(self._at(_INVITES))
            self._forget_invites(now)
            self._write(_invite(secret), json.dumps({"name": name, "expires": token.expires}).encode())
        return token

    def admit(self, secret: str, name: str, asked: bytes, now: float) -> bytes:
        """Use a join token up, and return the certificate for it.

        :raises PermissionError: it is none of ours, has expired, was used, or is for another name.
        :raises ValueError: what is asked for is no request.
        """
        with self._locked():
            path = self._at(_invite(secret))
            try:
                with open(path, "rb") as file:
                    invite = json.loads(file.read())
            except (OSError, ValueError):
                raise PermissionError("no such join token, or it has been used") from None
            if now >= invite["expires"] or invite["name"] != name:
                raise PermissionError("no such join token, or it has been used")
            signed = self._sign(asked, name, now)
            os.unlink(path)
        return signed

    def issue(self, name: str, asked: bytes, now: float) -> bytes:
        """Return another certificate for a gate that has a good one.

        :raises ConfigError: certificates are issued elsewhere.
        :raises ValueError: what is asked for is no request.
        """
        with self._locked():
            self._issuer()
            return self._sign(asked, name, now)

    def _sign(self, asked: bytes, name: str, now: float) -> bytes:
        signed = authority.issue(self._read("ca.key"), self._read("ca.pem"), asked, name, now)
        noted = self._noted()
        noted["issued"][name] = authority.read(signed).ends
        self._note(noted)
        return signed

    def _issuer(self) -> str:
        self.require()
        if not self.is_issuer:
            noted = self._noted()
            raise ConfigError(f"certificates of this fleet are issued by gate {noted['issuer']} at {noted['at']}")
        return str(self._noted()["issuer"])

    def _forget_invites(self, now: float) -> None:
        for name in os.listdir(self._at(_INVITES)):
            path = self._at(os.path.join(_INVITES, name))
            with contextlib.suppress(OSError, ValueError, KeyError):
                with open(path, "rb") as file:
                    ends = json.loads(file.read())["expires"]
                if now >= ends:
                    os.unlink(path)

    # --- what every gate has ------------------------------------------------------------------------------------------

    def require(self) -> None:
        """Raise ``ConfigError`` unless this gate is of a fleet."""
        if not os.path.exists(self._at("ca.pem")):
            raise ConfigError(
                f"{self.path}: this gate has no certificate; begin a fleet with outgate fleet init, or join one with "
                "outgate fleet join TOKEN"
            )

    @property
    def issuer(self) -> tuple[str, str]:
        """Name and ``HOST:PORT`` of the gate that issues certificates; the latter is "" here."""
        noted = self._noted()
        return str(noted["issuer"]), str(noted["at"])

    @property
    def ca(self) -> bytes:
        """The authority's certificate."""
        return self._read("ca.pem")

    def own(self) -> Certificate:
        """Return what this gate's certificate says. Raises ``ConfigError`` where there is none."""
        self.require()
        return authority.read(self._read("gate.pem"))

    @property
    def version(self) -> tuple[int, int]:
        """What changes with this gate's certificate."""
        seen = os.stat(self._at("gate.pem"))
        return seen.st_ino, seen.st_mtime_ns

    def context(self, is_server: bool) -> ssl.SSLContext:
        """Return TLS with this gate's certificate, towards gates of the fleet and nobody else.

        A server lets in who shows none, too: who joins has none yet, and gets no further than that.

        :raises ConfigError: there is no certificate, or it cannot be used.
        """
        self.require()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if is_server else ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        try:
            context.load_verify_locations(self._at("ca.pem"))
            context.load_cert_chain(self._at("gate.pem"))
        except (OSError, ssl.SSLError) as e:
            raise ConfigError(f"{self.path}: its certificates cannot be used: {e}") from None
        context.verify_mode = ssl.CERT_OPTIONAL if is_server else ssl.CERT_REQUIRED
        if is_server:
            context.num_tickets = 0  # every link shows its certificate, which may have expired since the last
        return context

    # --- files --------------------------------------------------------------------------------------------------------

    def _at(self, name: str) -> str:
        return os.path.join(self.path, name)

    def _read(self, name: str) -> bytes:
        try:
            with open(self._at(name), "rb") as file:
                return file.read()
        except OSError as e:
            raise ConfigError(f"{self._at(name)}: {e.strerror}") from None

    def _write(self, name: str, data: bytes) -> None:
        path = self._at(name)
        beside = f"{path}.{os.getpid()}"
        try:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(beside)
            fd = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with open(fd, "wb") as file:
                self._give(fd)
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.rename(beside, path)
        except OSError as e:
            raise ConfigError(f"{path}: {e.strerror}") from None

    def _give(self, made: int | str, owner: os.stat_result | None = None) -> None:
        """Give what root has made to the gate's user, whose folder this is."""
        if os.geteuid() == 0:
            owner = owner or os.stat(self.path)
            os.chown(made, owner.st_uid, owner.st_gid)

    def _noted(self) -> dict[str, Any]:
        try:
            found = json.loads(self._read("fleet.json"))
            return {"issuer": str(found["issuer"]), "at": str(found["at"]), "issued": dict(found.get("issued", {}))}
        except (ValueError, KeyError, TypeError):
            raise ConfigError(f"{self._at('fleet.json')}: is damaged") from None

    def _note(self, said: dict[str, Any]) -> None:
        self._write("fleet.json", json.dumps({"version": 1, **said}).encode())

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Let nobody else write here meanwhile: the gate and a command may want to at one time."""
        try:
            os.makedirs(os.path.dirname(self.path), exist_ok=True)
            if not os.path.isdir(self.path):
                os.mkdir(self.path, 0o700)
                owner = os.stat(os.path.dirname(self.path))
                self._give(self.path, owner)
            fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as e:
            raise ConfigError(f"{self.path}: {e.strerror}") from None
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)


def check(certificate: Certificate, name: str, now: float) -> None:
    """Raise ``ConfigError`` unless a gate of that name may serve with this certificate at that time."""
    if certificate.name != name:
        raise ConfigError(
            f'fleet.name: this gate is called "{name}", and its certificate is for "{certificate.name}"; two gates may '
            "not share a name"
        )
    trouble = terms.trouble(certificate.begins, certificate.ends, now)
    if trouble:
        raise ConfigError(
            f"fleet: the certificate of gate {name} {trouble} ({_day(certificate.begins)} to "
            f"{_day(certificate.ends)}); at the gate that issues them: outgate fleet invite {name} --again"
        )


def _invite(secret: str) -> str:
    # What lies in the folder is not what opens the door.
    return os.path.join(_INVITES, hashlib.sha256(secret.encode("ascii", "replace")).hexdigest())


def _day(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))
