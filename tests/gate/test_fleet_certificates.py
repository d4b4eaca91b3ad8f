"""Certificates of a fleet: begun, given for a token, taken anew, and refused where they are not good."""

from __future__ import annotations

import json
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from outgate.cli import fleet as command
from outgate.core.fleet import terms, token
from outgate.errors import ConfigError
from outgate.gate.configuration import config
from outgate.gate.fleet import asking, authority
from outgate.gate.fleet.folder import Folder, check
from outgate.testing.running import RunningGate
from support import peers
from support.driven import Driven
from support.fleets import fleet, folder_of

NOW = 1_800_000_000.0


@pytest.fixture
def first(tmp_path: Path) -> Folder:
    """The folder of a fleet's first gate, called a."""
    folder = Folder(str(tmp_path / "a"))
    folder.begin("a", NOW)
    return folder


@pytest.fixture(scope="module")
def gates() -> Iterator[dict[str, RunningGate]]:
    """Two gates of a fleet that run."""
    with fleet() as made:
        yield made


def test_a_fleet_begins_once(first: Folder) -> None:
    """The first gate has a certificate for a week in its name; keys are its user's alone."""
    own = first.own()
    assert own.name == "a"
    assert (own.begins, own.ends) == (NOW - terms.SKEW, NOW + terms.GATE)
    check(own, "a", NOW)
    assert first.is_issuer
    assert first.issuer == ("a", "")
    for name in os.listdir(first.path):
        assert stat.S_IMODE(os.stat(os.path.join(first.path, name)).st_mode) == 0o600
    assert stat.S_IMODE(os.stat(first.path).st_mode) == 0o700
    with pytest.raises(ConfigError, match="has a fleet already"):
        first.begin("a", NOW)


def test_an_invitation_is_good_once(first: Folder) -> None:
    """A token gives one certificate, for the name that it was made for, and then nothing."""
    made = first.invite("b", "192.0.2.1:7400", NOW, 60)
    _, asked = authority.request()
    with pytest.raises(PermissionError):
        first.admit(made.secret, "c", asked, NOW)
    with pytest.raises(PermissionError):
        first.admit("00" * token.SECRET_SIZE, "b", asked, NOW)
    with pytest.raises(ValueError, match=r"no request|Unable|valid"):
        first.admit(made.secret, "b", b"nonsense", NOW)
    assert authority.read(first.admit(made.secret, "b", asked, NOW)).name == "b"
    with pytest.raises(PermissionError):
        first.admit(made.secret, "b", asked, NOW)


def test_an_invitation_expires(first: Folder) -> None:
    """A token that is late is as good as none; and what lies in the folder is not what opens the door."""
    made = first.invite("b", "192.0.2.1:7400", NOW, 60)
    kept = os.listdir(os.path.join(first.path, "invites"))
    assert len(kept) == 1
    assert made.secret not in kept[0]
    with pytest.raises(PermissionError):
        first.admit(made.secret, "b", authority.request()[1], NOW + 60)


def test_two_gates_do_not_get_one_name(first: Folder) -> None:
    """A name that has a good certificate is not given away again, unless somebody says so."""
    made = first.invite("b", "192.0.2.1:7400", NOW, 60)
    first.admit(made.secret, "b", authority.request()[1], NOW)
    with pytest.raises(ConfigError, match="--again"):
        first.invite("b", "192.0.2.1:7400", NOW, 60)
    with pytest.raises(ConfigError, match="own name"):
        first.invite("a", "192.0.2.1:7400", NOW, 60)
    first.invite("b", "192.0.2.1:7400", NOW, 60, again=True)
    first.invite("b", "192.0.2.1:7400", NOW + terms.GATE, 60)


def test_a_certificate_is_held_to_name_and_time(first: Folder) -> None:
    """A gate starts with its own certificate only, and only while that is good."""
    own = first.own()
    with pytest.raises(ConfigError, match='called "b", and its certificate is for "a"'):
        check(own, "b", NOW)
    with pytest.raises(ConfigError, match="has expired"):
        check(own, "a", own.ends)
    with pytest.raises(ConfigError, match="clock"):
        check(own, "a", own.begins - 1)


def test_a_gate_without_a_certificate_says_what_to_do(tmp_path: Path) -> None:
    """Nothing of a fleet works in a folder that is none."""
    folder = Folder(str(tmp_path))
    for ask in (folder.own, lambda: folder.context(is_server=True), lambda: folder.invite("b", "h:1", NOW, 60)):
        with pytest.raises(ConfigError, match=r"outgate fleet (init|join)"):
            ask()


def test_who_issues_is_known_elsewhere(first: Folder, tmp_path: Path) -> None:
    """A gate that has joined issues nothing, and says who does."""
    made = first.invite("b", "192.0.2.1:7400", NOW, 60)
    key, asked = authority.request()
    other = Folder(str(tmp_path / "b"))
    other.join(made, first.ca, key, first.admit(made.secret, "b", asked, NOW))
    assert other.issuer == ("a", "192.0.2.1:7400")
    assert not other.is_issuer
    with pytest.raises(ConfigError, match=r"issued by gate a at 192\.0\.2\.1:7400"):
        other.invite("c", "192.0.2.2:7400", NOW, 60)


def test_a_certificate_is_renewed_over_the_link(gates: dict[str, RunningGate]) -> None:
    """Gate b takes another certificate of gate a, while what it has goes on; so does the issuer itself."""
    with peers.echo() as peer, Driven(gates["a"]) as front, Driven(gates["b"]) as worker:
        front.do(f"sock = socket.create_connection({peer.address!r}, 15); import outgate")
        worker.do(f"import outgate; sock = outgate.adopt({front.do('outgate.descriptor(sock)')!r})")
        for name, gate in gates.items():
            before = folder_of(gate).version
            assert asking.rotate(folder_of(gate), name) > time.time() + terms.GATE - 60
            assert folder_of(gate).version != before
        worker.do("sock.sendall(b'still here')")
        assert worker.do("sock.recv(10, socket.MSG_WAITALL).decode()") == "still here"
        worker.do("sock.close()")
        front.do("sock.close()")


def test_a_token_is_held_to_its_authority(gates: dict[str, RunningGate], tmp_path: Path) -> None:
    """Who joins is not fooled by another gate that answers in the place of the one that made the token."""
    elsewhere = Folder(str(tmp_path / "other"))
    elsewhere.begin("a", time.time())
    at = config.load(gates["a"].config or "").fleet.listen  # type: ignore[union-attr]
    made = elsewhere.invite("c", at, time.time(), 60)
    with pytest.raises(ConfigError, match="is not the gate that made this join token"):
        asking.join(Folder(str(tmp_path / "c")), made, "c")
    with pytest.raises(ConfigError, match=r'for gate "c", and fleet\.name here is "d"'):
        asking.join(Folder(str(tmp_path / "c")), made, "d")
    used = folder_of(gates["a"]).invite("c", at, time.time(), 60)
    asking.join(Folder(str(tmp_path / "c")), used, "c")
    with pytest.raises(ConfigError, match="it has been used"):
        asking.join(Folder(str(tmp_path / "c2")), used, "c")


@pytest.mark.parametrize("which", ["expired", "another fleet's", "another gate's"])
def test_a_certificate_that_is_not_good_gets_nothing(which: str, tmp_path: Path) -> None:
    """Stolen from another fleet, expired, or of a gate that is not listed: the owner gives nothing, and says so."""
    with peers.echo() as peer, fleet() as gates:
        ours, theirs = folder_of(gates["a"]), folder_of(gates["b"])
        now = time.time()
        if which == "another fleet's":
            other = Folder(str(tmp_path))
            other.begin("a", now)
            ca, ca_key = other.ca, Path(other.path, "ca.key").read_bytes()
        else:
            ca, ca_key = ours.ca, Path(ours.path, "ca.key").read_bytes()
        key, asked = authority.request()
        name = "c" if which == "another gate's" else "b"
        begins, lasts = (now - 7200, 5400) if which == "expired" else (now, 3600)
        theirs.renew(key, authority.issue(ca_key, ca, asked, name, begins, lasts))
        said = asking.trouble(theirs, "a", config.load(gates["a"].config or "").fleet.listen)  # type: ignore[union-attr]
        assert said
        refused = gates["a"].wait_for(event="fleet-refused")
        assert {
            "expired": "certificate has expired",
            "another fleet's": "certificate",
            "another gate's": "does not list it",
        }[which] in refused["reason"]
        with Driven(gates["a"]) as front, Driven(gates["b"]) as worker:  # with what it had at its start it goes on
            front.do(f"sock = socket.create_connection({peer.address!r}, 15); import outgate")
            worker.do(f"import outgate; sock = outgate.adopt({front.do('outgate.descriptor(sock)')!r})")
            worker.do("sock.close()")
            front.do("sock.close()")


def test_the_command_in_words_and_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """init, invite and show do what their help says, and say why not."""
    file = tmp_path / "outgate.toml"
    file.write_text('version = 1\n[gate]\nstate = "state"\n[fleet]\nname = "a"\nlisten = "0.0.0.0:7400"\n')
    where = ["--config", str(file)]
    assert command.main(["init", *where]) == 0
    assert "A fleet begins" in capsys.readouterr().out
    assert command.main(["init", *where]) == 1
    assert "has a fleet already" in capsys.readouterr().err
    assert command.main(["invite", "b", *where]) == 1
    assert "--at HOST:PORT" in capsys.readouterr().err
    assert command.main(["invite", "b", "--at", "192.0.2.1:7400", "--json", *where]) == 0
    made = json.loads(capsys.readouterr().out)
    assert token.read(made["token"], time.time()).name == "b"
    assert command.main(["show", "--json", *where]) == 0
    assert json.loads(capsys.readouterr().out)["gate"] == "a"
    assert command.main(["rotate", *where]) == 0
    file.write_text("version = 1\n")
    assert command.main(["show", *where]) == 2
    for wrong in (["invite"], ["init", "b"], ["nothing"]):
        with pytest.raises(SystemExit) as ended:
            command.main([*wrong, *where])
        assert ended.value.code == 2


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('listen = "192.0.2.1:7400"', "fleet.name: missing"),
        ('name = "A"\nlisten = "192.0.2.1:7400"', 'fleet.name: "A" is not a name for a gate'),
        ('name = "a"', "fleet.listen: missing"),
        ('name = "a"\nlisten = "192.0.2.1"', "fleet.listen: "),
        ('name = "a"\nlisten = "192.0.2.1:1"\ngates = { B = "h:1" }', 'fleet.gates: "B" is not a name'),
        ('name = "a"\nlisten = "192.0.2.1:1"\ngates = { b = "h" }', "fleet.gates.b: "),
        ('name = "a"\nlisten = "192.0.2.1:1"\nproxy = "http://h:1"', "fleet.proxy: "),
        ('name = "a"\nlistens = "192.0.2.1:1"', 'did you mean "listen"'),
    ],
)
def test_a_configuration_says_what_is_wrong_with_it(text: str, complaint: str, tmp_path: Path) -> None:
    """Each key of [fleet] is held to what it may be."""
    file = tmp_path / "outgate.toml"
    file.write_text(f"version = 1\n[fleet]\n{text}\n")
    with pytest.raises(ConfigError) as refused:
        config.load(str(file))
    assert complaint in str(refused.value)


def test_a_reload_reaches_the_list_alone(tmp_path: Path) -> None:
    """Other gates count at once; another name or place takes a start, and a warning says so."""
    file = tmp_path / "outgate.toml"
    file.write_text('version = 1\n[fleet]\nname = "a"\ngates = { a = "192.0.2.1:1" }\n')
    before = config.load(str(file))
    assert before.fleet is not None
    assert before.fleet.listen == "192.0.2.1:1"
    file.write_text('version = 1\n[fleet]\nname = "x"\nlisten = "192.0.2.9:2"\ngates = { b = "192.0.2.2:1" }\n')
    after = config.reload(before)
    assert after.fleet is not None
    assert (after.fleet.name, after.fleet.listen, dict(after.fleet.gates)) == ("a", "192.0.2.1:1", {"b": "192.0.2.2:1"})
    assert {each.place for each in after.warnings} >= {"fleet.name", "fleet.listen"}
    file.write_text("version = 1\n")
    assert config.reload(before).fleet == before.fleet
