"""What a program finds inside the fence, and what it does not notice."""

import json
import os
import pickle
import signal
import socket
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from outgate.guard import fence, namespaces
from outgate.guard.fence import Fence, FenceUnavailable

SCRIPT = Path(__file__).with_name("fenced.py")
NOBODY = 65534
ORDINARY = 4711

#: Documentation addresses (RFC 5737, RFC 3849): public-looking, and nobody's.
FAR = "198.51.100.7"
FAR6 = "2001:db8::7"


class Somebody:
    """A user whom the fence shall hold: starts programs in it."""

    def __init__(self, uid: "int | None") -> None:
        self.demotion = [] if uid is None else ["--uid", str(uid)]
        self.uid = os.geteuid() if uid is None else uid

    def start(self, *arguments: str, **options: object) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, str(SCRIPT), *self.demotion, *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=30, **options)  # type: ignore[call-overload,no-any-return]

    def runs(self, *program: str, **options: object) -> str:
        """Run a program in the fence and return its output; it must succeed."""
        done = self.start("--", *program, **options)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def sees(self, code: str, *arguments: str, **options: object) -> object:
        """Run Python in the fence and return the value that it shows."""
        done = self.start(*arguments, "--python", code, **options)
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout)


def _needs_root() -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root to become somebody else")


@pytest.fixture(params=["self", pytest.param("ordinary", marks=pytest.mark.integration)])
def somebody(request: pytest.FixtureRequest) -> Somebody:
    """The user who runs the tests, and an ordinary one."""
    if request.param == "ordinary":
        _needs_root()
        return Somebody(ORDINARY)
    verdict = fence.probe()
    if isinstance(verdict, FenceUnavailable):
        pytest.skip(f"no fence on this host: {verdict}")
    return Somebody(None)


@pytest.fixture
def ordinary() -> Somebody:
    """An ordinary user; tests that ask for one are marked ``integration``."""
    _needs_root()
    return Somebody(ORDINARY)


@pytest.fixture
def public_folder() -> Iterator[Path]:
    """A folder that every user may read, which pytest's own is not."""
    with tempfile.TemporaryDirectory(prefix="outgate-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


# What is inside.


def test_only_lo_exists(somebody: Somebody) -> None:
    """The interface table of the fence has one line, and it is lo's."""
    table = somebody.runs("cat", "/proc/net/dev")
    assert [line.split(":")[0].strip() for line in table.splitlines()[2:]] == ["lo"]


def test_lo_is_up_and_carries_traffic(somebody: Somebody) -> None:
    """A listener on the fence's own loopback is reached, by IPv4 and, where the kernel has it, IPv6."""
    code = """
result = []
for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
    if family == socket.AF_INET6 and not os.path.exists("/proc/net/if_inet6"):
        result.append("ok")
        continue
    server = socket.create_server((host, 0), family=family)
    result.append(attempt(socket.socket(family).connect, server.getsockname()))
show(result)
"""
    assert somebody.sees(code) == ["ok", "ok"]


@pytest.mark.parametrize(
    ("family", "kind", "call"),
    [
        ("AF_INET", "SOCK_STREAM", f"connect(('{FAR}', 443))"),
        ("AF_INET6", "SOCK_STREAM", f"connect(('{FAR6}', 443))"),
        ("AF_INET", "SOCK_DGRAM", f"sendto(b'x', ('{FAR}', 53))"),
        ("AF_INET", "SOCK_STREAM", f"sendto(b'', socket.MSG_FASTOPEN, ('{FAR}', 443))"),
    ],
)
def test_what_goes_round_the_client_is_unreachable_at_once(
    somebody: Somebody, family: str, kind: str, call: str
) -> None:
    """A native connect or datagram to a public-looking address answers ENETUNREACH."""
    code = f"show(attempt(lambda: socket.socket(socket.{family}, socket.{kind}).{call}))"
    assert somebody.sees(code) == "ENETUNREACH"


def test_loopback_of_the_host_is_not_reached(somebody: Somebody) -> None:
    """A listener on the host's loopback is another one than the fence's: the connect is refused."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert somebody.sees(f"show(attempt(socket.socket().connect, ('127.0.0.1', {port})))") == "ECONNREFUSED"


def test_pathname_socket_outside_is_reached_with_the_true_uid(somebody: Somebody, public_folder: Path) -> None:
    """A Unix socket by path crosses the fence, and the far end sees the caller's own uid and pid."""
    path = str(public_folder / "gate.sock")
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as server:
        server.bind(path)
        os.chmod(path, 0o666)
        server.listen()
        code = f"""
channel = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
channel.connect({path!r})
channel.send(str(os.getpid()).encode())
show(0)
"""
        assert somebody.sees(code) == 0
        channel, _ = server.accept()
        with channel:
            pid, uid, _ = struct.unpack("3i", channel.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
            assert (str(pid), uid) == (channel.recv(64).decode(), somebody.uid)


def test_abstract_socket_outside_is_not_reached(somebody: Somebody) -> None:
    """Abstract Unix names belong to the network namespace, so a host's one does not exist in the fence."""
    name = f"\0outgate-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(name)
        server.listen()
        code = f"show(attempt(socket.socket(socket.AF_UNIX).connect, {name!r}.replace('\\\\x00', '\\0')))"
        assert somebody.sees(code) == "ECONNREFUSED"


def test_fence_within_a_fence(somebody: Somebody) -> None:
    """A fenced process can enter another fence, so programs that start ``outgate run`` themselves work."""
    code = "show([attempt(fence.enter), [name for _, name in socket.if_nameindex()]])"
    assert somebody.sees(code) == ["ok", ["lo"]]


# What passes through untouched.


@pytest.mark.parametrize("status", [0, 1, 77, 255])
def test_exit_status(somebody: Somebody, status: int) -> None:
    """The program's exit status is the caller's exit status."""
    assert somebody.start("--", "sh", "-c", f"exit {status}").returncode == status


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGINT])
def test_death_by_signal(somebody: Somebody, number: signal.Signals) -> None:
    """A program that dies of a signal is seen to die of that signal."""
    assert somebody.start("--", "sh", "-c", f"kill -{int(number)} $$").returncode == -number


def test_process_is_the_same(somebody: Somebody) -> None:
    """There is no fork: pid, parent, group and terminal session are those of the caller."""
    command = [sys.executable, str(SCRIPT), *somebody.demotion, "--", "sh", "-c", "cut -d' ' -f1,4-7 /proc/$$/stat"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        seen = process.stdout.read().split()
    own = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    assert process.returncode == 0
    assert seen == [str(process.pid), str(os.getpid()), *own[2:5]]


def test_stdio_working_directory_and_environment(somebody: Somebody, public_folder: Path) -> None:
    """Standard input, output and error, the working directory and the environment are the caller's."""
    done = somebody.start(
        "--",
        "sh",
        "-c",
        'read line; echo "$line"; pwd -P; echo "$MARK" >&2',
        input="said\n",
        cwd=public_folder,
        env={**os.environ, "MARK": "kept"},
    )
    assert done.stdout.split() == ["said", str(public_folder.resolve())]
    assert done.stderr == "kept\n"


def test_uid_and_gid(somebody: Somebody) -> None:
    """Real and effective uid and gid read as before."""
    before = "outside = [os.getresuid(), os.getresgid()]"
    assert somebody.sees("show(outside == [os.getresuid(), os.getresgid()])", "--before", before) is True


@pytest.mark.integration
def test_ordinary_program_has_no_capabilities(ordinary: Somebody) -> None:
    """After the exec an ordinary user's program holds no capability, in its own user namespace neither."""
    lines = ordinary.runs("cat", "/proc/self/status").splitlines()
    sets = {key: int(value, 16) for key, _, value in (line.partition(":\t") for line in lines) if key.startswith("Cap")}
    assert [sets[name] for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")] == [0, 0, 0, 0]


@pytest.mark.integration
def test_supplementary_groups_read_as_nogroup_and_still_open_files(ordinary: Somebody, public_folder: Path) -> None:
    """A supplementary group has no name in the fence but still opens the files it opened before."""
    file = public_folder / "group.txt"
    file.write_text("open")
    os.chown(file, 0, 4712)
    file.chmod(0o640)
    code = f"show([os.getgroups(), open({str(file)!r}).read(), attempt(os.setgroups, [])])"
    assert ordinary.sees(code, "--groups", "4712") == [[NOBODY], "open", "EPERM"]


@pytest.mark.integration
def test_root_without_the_right_is_fenced_like_everybody() -> None:
    """Root of a container, without CAP_SYS_ADMIN, gets a user namespace around the network namespace."""
    _needs_root()
    code = "show([os.getuid(), open('/proc/self/uid_map').read().split(), [n for _, n in socket.if_nameindex()]])"
    without = ["setpriv", "--inh-caps=-sys_admin", "--bounding-set=-sys_admin"]
    done = subprocess.run(
        [*without, sys.executable, str(SCRIPT), "--python", code], capture_output=True, text=True, timeout=30
    )
    assert json.loads(done.stdout or done.stderr) == [0, ["0", "0", "1"], ["lo"]]


# Where it does not work.


def _refusal(somebody: Somebody, before: str) -> "dict[str, object]":
    done = somebody.start("--before", before, "--python", "show('in')")
    assert done.returncode == 77, done.stdout + done.stderr
    refusal = json.loads(done.stdout)
    assert isinstance(refusal, dict)
    return refusal


def test_process_with_threads_is_refused(somebody: Somebody) -> None:
    """A process with a second thread gets a refusal that says so, and stays where it was."""
    before = """
import atexit
held = threading.Event()
threading.Thread(target=held.wait, daemon=True).start()
atexit.register(held.set)
"""
    refusal = _refusal(somebody, before)
    assert "2 threads" in str(refusal["reason"])
    assert refusal["altered"] is False


@pytest.mark.integration
def test_switched_off_user_namespaces_are_named(ordinary: Somebody) -> None:
    """With user.max_user_namespaces = 0 the refusal names that setting, and nothing is half done."""
    _needs_root()
    refusal = _refusal(Somebody(None), f"nest({ORDINARY}, 'max_user_namespaces')")
    assert "user.max_user_namespaces is 0" in str(refusal["reason"])
    assert "sysctl -w user.max_user_namespaces=" in str(refusal["cure"])
    assert refusal["altered"] is False


@pytest.mark.integration
@pytest.mark.parametrize("uid", [0, ORDINARY])
def test_switched_off_network_namespaces_are_named(uid: int) -> None:
    """With user.max_net_namespaces = 0 the refusal names that setting, for root and for others."""
    _needs_root()
    refusal = _refusal(Somebody(None), f"nest({uid}, 'max_net_namespaces')")
    assert "user.max_net_namespaces is 0" in str(refusal["reason"])
    assert refusal["altered"] is False


@pytest.mark.integration
def test_probe_reports_what_enter_would(ordinary: Somebody) -> None:
    """On a host that refuses, probe returns the refusal as a value and leaves the caller where it is."""
    before = f"""
nest({ORDINARY}, 'max_user_namespaces')
where = os.readlink('/proc/self/ns/net')
verdict = fence.probe()
assert os.readlink('/proc/self/ns/net') == where
assert 'max_user_namespaces' in verdict.reason and not verdict.altered, verdict
"""
    _refusal(Somebody(None), before)


@pytest.mark.integration
def test_undumpable_process_is_refused_before_anything_happens(ordinary: Somebody) -> None:
    """A process that may not write its own maps is told so while it is still outside."""
    refusal = _refusal(ordinary, "dumpable(False)")
    assert "/proc/self/uid_map" in str(refusal["reason"])
    assert refusal["altered"] is False


def test_probe_does_not_alter_the_caller() -> None:
    """After a probe the caller is in the namespaces it was in, with no child left."""
    before = [os.readlink(f"/proc/self/ns/{name}") for name in ("net", "user")]
    children = Path(f"/proc/self/task/{os.getpid()}/children")
    had = children.read_text() if children.exists() else ""
    assert isinstance(fence.probe(), (Fence, FenceUnavailable))
    assert [os.readlink(f"/proc/self/ns/{name}") for name in ("net", "user")] == before
    assert (children.read_text() if children.exists() else "") == had


def test_failure_past_the_point_of_no_return_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the map cannot be written after unshare, the refusal says that the process is altered."""

    def deny(uid: int, gid: int) -> None:
        raise PermissionError(1, "withheld")

    def unshare(flags: int) -> None:
        if flags == namespaces.NEW_NETWORK:
            raise PermissionError(1, "no CAP_SYS_ADMIN")

    monkeypatch.setattr(namespaces, "thread_count", lambda: 1)
    monkeypatch.setattr(namespaces, "unshare", unshare)
    monkeypatch.setattr(namespaces, "write_identity_map", deny)
    monkeypatch.setattr(fence, "_DOUBTFUL", "/nowhere")
    with pytest.raises(FenceUnavailable) as caught:
        fence.enter()
    assert caught.value.altered


def test_doubtful_host_is_tried_in_a_child_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where AppArmor may withhold the rights after unshare, the caller is not moved before a child has tried."""
    switch = tmp_path / "restrict"
    switch.write_text("1\n")
    refusal = FenceUnavailable("withheld", "load a profile")
    moved: list[int] = []
    monkeypatch.setattr(fence, "_DOUBTFUL", str(switch))
    monkeypatch.setattr(namespaces, "thread_count", lambda: 1)
    monkeypatch.setattr(namespaces, "unshare", moved.append)
    monkeypatch.setattr(fence, "probe", lambda: refusal)
    with pytest.raises(FenceUnavailable) as caught:
        fence.enter()
    assert caught.value is refusal
    assert moved == []


def test_os_unshare_is_used_where_python_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """From Python 3.12 on the interpreter's own unshare is called, and ctypes is not needed."""
    seen: list[int] = []
    monkeypatch.setattr(os, "unshare", seen.append, raising=False)
    namespaces.unshare(namespaces.NEW_NETWORK)
    assert seen == [0x40000000]


def test_ctypes_unshare_raises_the_true_errno(monkeypatch: pytest.MonkeyPatch) -> None:
    """The call through the C library reports the kernel's errno: EINVAL for flags that do not exist."""
    monkeypatch.delattr(os, "unshare", raising=False)
    with pytest.raises(OSError, match="Invalid argument"):
        namespaces.unshare(1)


def test_values_introduce_themselves_and_pickle() -> None:
    """A fence says what it consists of, and a refusal survives pickling with its reason, cure and state."""
    assert [str(Fence(user=False)), str(Fence(user=True))] == [
        "an empty network namespace",
        "an empty network and user namespace",
    ]
    assert len({Fence(user=True), Fence(user=True)}) == 1
    copy = pickle.loads(pickle.dumps(FenceUnavailable("why", "how", altered=True)))
    assert (copy.reason, copy.cure, copy.altered, str(copy)) == ("why", "how", True, "why; how")


# The program's inherited sockets.


def test_inherited_sockets_that_lead_out_are_listed(somebody: Somebody) -> None:
    """An inheritable inet socket is listed with what it is, standard input included; others are not."""
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as datagram,
        socket.socket(socket.AF_UNIX) as local,
    ):
        fds = (server.fileno(), datagram.fileno(), local.fileno())
        code = f"""
own = socket.socket()
fds = {fds}
show([[each.fd, each.family, each.kind, each.listening] for each in fence.inherited_network_fds()])
"""
        listed = somebody.sees(code, pass_fds=fds, stdin=server.fileno())
    expected = [[0, "AF_INET", "stream", True], [fds[0], "AF_INET", "stream", True]]
    assert listed == sorted([*expected, [fds[1], "AF_INET6", "datagram", False]])


def test_inherited_socket_introduces_itself() -> None:
    """The text of an inherited socket is what a warning needs: fd, family, kind."""
    each = fence.InheritedSocket(5, "AF_INET", "stream", True)
    assert str(each) == "fd 5 (AF_INET stream, listening)"
