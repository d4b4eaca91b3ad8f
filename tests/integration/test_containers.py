"""What deploy/ describes runs: the image is built and its containers are contained as the manifests say, by Podman.

In the place of a public network is one of the tests', with an echo server at the address of www.example.com. Where a
manifest leaves something to a cluster (a policy of the network, a profile on each node) the test puts in its place what
the cluster would make of it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from support import containers, stage
from support.containers import DEPLOY, IMAGE, Containers, as_arguments
from support.waiting import wait_until

# Minutes, most of them to build the image: a part of make check-full.
pytestmark = [pytest.mark.timeout(1200), pytest.mark.full]

HOST = "www.example.com"

#: What an app's program finds where it runs: by the gate, and round it.
AGENT = f"""
import errno, json, os, socket, subprocess, sys

def attempt(host, port):
    try:
        with socket.create_connection((host, port), 10) as sock:
            sock.sendall(b"hello")
            return sock.recv(5).decode()
    except OSError as e:
        return type(e).__name__

round_it = "import socket; socket.create_connection(({stage.NAMES[HOST]!r}, 443), 3)"
said = subprocess.run([sys.executable, "-I", "-c", round_it], capture_output=True, text=True)
print(json.dumps({{
    "uid": os.getuid(),
    "ways": sorted(set(os.listdir("/sys/class/net")) - set(["lo"])),
    "allowed": attempt({HOST!r}, 443),
    "denied": attempt("news.example.net", 443),
    "round": said.stderr.strip().rpartition(chr(10))[2] if said.returncode else "connected",
}}), flush=True)
"""


@pytest.fixture(scope="module")
def net() -> Iterator[stage.Net]:
    """Two namespaces, one of which is where gates are and the other the internet."""
    missing = stage.missing()
    if missing:
        pytest.skip(missing)
    with stage.Net() as made:
        yield made


@pytest.fixture(scope="module")
def pods(net: stage.Net) -> Iterator[Containers]:
    """Podman with the image built."""
    missing = containers.missing()
    if missing:
        pytest.skip(missing)
    with Containers() as made:
        yield made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder that every user may look into, with a copy of deploy/ and the app's program."""
    made = tmp_path / "deploy"
    shutil.copytree(DEPLOY, made)
    (made / "app").mkdir()
    (made / "app" / "agent.py").write_text(AGENT)
    for each in (tmp_path, *tmp_path.parents):
        if each.owner() == Path.home().owner() and each != Path("/"):
            each.chmod(each.stat().st_mode | 0o055)
        if each == Path("/tmp"):
            break
    return made


def _documents(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((DEPLOY / "kubernetes" / name).read_text()))


def _one(documents: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    (found,) = (each for each in documents if each["kind"] == kind)
    return found


def _pod(documents: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    spec: dict[str, Any] = _one(documents, kind)["spec"]["template"]["spec"]
    return spec


def test_image_is_an_ordinary_users(pods: Containers) -> None:
    """The image runs as a user that is not root, without a capability, and its folders are that user's."""
    folders = "'/etc/outgate', '/run/outgate', '.'"
    look = f"import os; print(os.getuid(), *(os.access(each, os.W_OK) for each in ({folders})))"
    said = pods.podman("run", "--rm", "--entrypoint=python", "--cap-drop=all", IMAGE, "-c", look).stdout
    assert said.split() == ["65532", "False", "True", "True"]


@pytest.mark.parametrize("shown", ["/etc/outgate/outgate.toml", ""])
def test_image_reads_the_shipped_configuration(pods: Containers, shown: str) -> None:
    """The image's command line checks deploy/outgate.toml, and without any says what it does."""
    mount = f"--volume={DEPLOY}/outgate.toml:/etc/outgate/outgate.toml:ro"
    said = pods.podman("run", "--rm", mount, IMAGE, *(["check", shown] if shown else ["--help"])).stdout
    assert ("0 warnings" if shown else "usage: outgate COMMAND") in said


def test_compose_has_the_app_without_network(pods: Containers, net: stage.Net, folder: Path) -> None:
    """compose.yaml: the app reaches by the gate what its policy allows, is refused the rest, and has no other way."""
    override = folder / "test.yaml"
    gate = {"image": IMAGE, "network_mode": f"ns:/run/netns/{net.near.name}"}
    gate["extra_hosts"] = [f"{HOST}:{stage.NAMES[HOST]}"]  # type: ignore[assignment]
    override.write_text(json.dumps({"services": {"gate": gate, "blog": {"image": IMAGE}}}))
    compose = folder / "compose.yaml"
    text, limits = re.subn(r"    ulimits:\n      nofile: .*\n", "", compose.read_text())
    compose.write_text(text)  # limits may not be raised where the tests run
    assert limits == 1
    command = [sys.executable, "-m", "podman_compose", "--file", str(compose), "--file", str(override)]

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*command, *words], env=pods.environ, capture_output=True, text=True, timeout=120)

    try:
        up = run("up", "--detach", "--no-build", "gate")
        assert up.returncode == 0, up.stderr
        status = ("exec", "outgate_gate_1", "outgate", "status", "--json")
        wait_until(lambda: pods.podman(*status, check=False).returncode == 0, limit=120, why=up.stderr)
        done = run("run", "--rm", "-T", "--no-deps", "blog")
        said = json.loads(done.stdout.strip().rpartition("\n")[2]) if done.returncode == 0 else done.stderr
    finally:
        run("down", "--volumes", "--timeout", "1")
    assert said == {
        "uid": 10001,
        "ways": [],
        "allowed": "hello",
        "denied": "LookUpDenied",
        "round": "OSError: [Errno 101] Network is unreachable",
    }


class _Cluster:
    """The containers of a manifest, with folders of this host for its volumes, in the network that it says."""

    def __init__(self, pods: Containers, net: stage.Net, folder: Path, manifest: str) -> None:
        self._pods = pods
        self._net = net
        self._folder = folder
        self.documents = _documents(manifest)
        self._names: list[str] = []

    def volumes(self, *names: str, uid: int) -> dict[str, str]:
        """Return folders for volumes, the configuration filled in; those of one path on a node are one folder."""
        made = {}
        for name in names:
            path = self._folder / name
            path.mkdir(exist_ok=True, parents=True)
            os.chown(path, uid, uid)
            made[name] = str(path)
        if "config" in made:
            text = _one(self.documents, "ConfigMap")["data"]["outgate.toml"]
            Path(made["config"], "outgate.toml").write_text(text)
        return made

    def start_gate(self, pod: dict[str, Any], container: dict[str, Any], volumes: dict[str, str]) -> str:
        """Start a container of the gate and wait until its probe says that it is up; return its name."""
        name = f"gate-{len(self._names)}"
        self._names.append(name)
        arguments = as_arguments(pod, container, volumes)
        network = f"--network=ns:/run/netns/{self._net.near.name}"
        hosts = f"--add-host={HOST}:{stage.NAMES[HOST]}"
        self._pods.podman("run", "--detach", f"--name={name}", network, hosts, *arguments, IMAGE)
        probe = ("exec", name, *container["startupProbe"]["exec"]["command"])
        wait_until(
            lambda: self._pods.podman(*probe, check=False).returncode == 0,
            limit=120,
            why=self._pods.podman("logs", name, check=False).stderr,
        )
        return name

    def run_app(self, pod: dict[str, Any], volumes: dict[str, str], *more: str) -> dict[str, Any]:
        """Run the app's container, whose program is the agent above; return what it found."""
        (container,) = pod["containers"]
        entry, *command = container["command"]
        arguments = [*as_arguments(pod, container, volumes), f"--volume={self._folder}/../app:/app:ro", *more]
        done = self._pods.podman("run", "--rm", f"--entrypoint={entry}", *arguments, IMAGE, *command)
        found: dict[str, Any] = json.loads(done.stdout.strip().rpartition("\n")[2])
        return {**found, "said": done.stderr}

    def end(self) -> None:
        """Remove its containers."""
        for name in self._names:
            self._pods.podman("rm", "--force", "--time", "1", name, check=False)


@pytest.fixture
def cluster(pods: Containers, net: stage.Net, folder: Path) -> Iterator[Callable[[str], _Cluster]]:
    """Make the cluster of a manifest."""
    made: list[_Cluster] = []

    def make(manifest: str) -> _Cluster:
        made.append(_Cluster(pods, net, folder / "volumes", manifest))
        return made[-1]

    yield make
    for each in made:
        each.end()


@pytest.fixture
def docker(pods: Containers) -> str:
    """The path of a profile that forbids what Docker's default does."""
    path = pods.folder / "docker.json"
    path.write_text(json.dumps(containers.docker_profile()))
    return str(path)


@pytest.fixture
def widened(pods: Containers, docker: str) -> str:
    """The path of that profile with the line more that docs/containers.md has."""
    page = (containers.ROOT / "docs" / "containers.md").read_text()
    (line,) = (each for each in page.splitlines() if each.startswith("$ jq ") and "seccomp" in each)
    path = pods.folder / "run.json"
    program = line.partition("'")[2].partition("'")[0]
    path.write_text(subprocess.run(["jq", program, docker], capture_output=True, text=True, check=True).stdout)
    return str(path)


def test_daemonset_tells_its_apps_apart_from_its_own_network(
    cluster: Callable[[str], _Cluster], docker: str, net: stage.Net
) -> None:
    """daemonset.yaml: an app that is not trusted is served, because the gate sees that it is in another network."""
    made = cluster("daemonset.yaml")
    pod = _pod(made.documents, "DaemonSet")
    volumes = made.volumes("config", "run", "state", uid=0)
    made.start_gate(pod, pod["containers"][0], volumes)
    app = _pod(made.documents, "Deployment")
    (mounted,) = app["volumes"]
    below = os.path.relpath(mounted["hostPath"]["path"], "/run/outgate")
    shown = {mounted["name"]: str(Path(volumes["run"], below))}
    # What a NetworkPolicy makes of a pod: nothing leads out of it.
    found = made.run_app(app, shown, "--network=none", f"--security-opt=seccomp={docker}")
    assert (found["allowed"], found["denied"], found["uid"]) == ("hello", "LookUpDenied", 10001)
    assert found["round"] == "OSError: [Errno 101] Network is unreachable"
    assert "relay path, not fenced: there is no network here but the gate" in found["said"]


def test_daemonset_refuses_what_is_in_its_own_network(cluster: Callable[[str], _Cluster], net: stage.Net) -> None:
    """A program of the same app that is not contained, in the gate's own network, gets no socket."""
    made = cluster("daemonset.yaml")
    pod = _pod(made.documents, "DaemonSet")
    volumes = made.volumes("config", "run", "state", uid=0)
    made.start_gate(pod, pod["containers"][0], volumes)
    app = _pod(made.documents, "Deployment")
    shown = {app["volumes"][0]["name"]: str(Path(volumes["run"], "blog"))}
    app["containers"][0]["command"][1:2] = ["run", "--unconfined"]
    found = made.run_app(app, shown, f"--network=ns:/run/netns/{net.near.name}")
    assert found["allowed"] == "PolicyDenied"
    assert found["round"] == "connected", "or the test shows nothing"


def test_sidecar_fences_its_app_within_the_pod(
    cluster: Callable[[str], _Cluster], widened: str, net: stage.Net
) -> None:
    """sidecar.yaml: in one network with its gate, the app is in an empty one of its own, and reaches what it may."""
    made = cluster("sidecar.yaml")
    pod = _pod(made.documents, "Deployment")
    volumes = made.volumes("config", "run", "blog-socket", "state", uid=65532)
    (gate,) = pod["initContainers"]
    assert gate["restartPolicy"] == "Always"
    made.start_gate(pod, gate, volumes)
    network = f"--network=ns:/run/netns/{net.near.name}"
    found = made.run_app(pod, volumes, network, f"--security-opt=seccomp={widened}")
    assert (found["allowed"], found["denied"]) == ("hello", "LookUpDenied")
    assert found["round"] == "OSError: [Errno 101] Network is unreachable"


def test_sidecar_does_not_start_its_app_unfenced(
    cluster: Callable[[str], _Cluster], docker: str, net: stage.Net
) -> None:
    """Under a default profile, which forbids namespaces, the app of sidecar.yaml fails and says what to change."""
    made = cluster("sidecar.yaml")
    pod = _pod(made.documents, "Deployment")
    volumes = made.volumes("config", "run", "blog-socket", "state", uid=65532)
    made.start_gate(pod, pod["initContainers"][0], volumes)
    with pytest.raises(RuntimeError, match=r"cannot fence: .*seccomp filter forbids namespaces"):
        made.run_app(pod, volumes, f"--network=ns:/run/netns/{net.near.name}", f"--security-opt=seccomp={docker}")


#: Profile → level → whether doctor says that it is here, for an ordinary user.
LEVELS = {
    "docker": {"client": True, "fence": False, "seal": False, "guard": False},
    "widened": {"client": True, "fence": True, "seal": False, "guard": True},
}


@pytest.mark.parametrize("profile", LEVELS)
def test_doctor_is_right_under_a_profile(pods: Containers, request: pytest.FixtureRequest, profile: str) -> None:
    """Doctor says which levels hold under Docker's profile, and with its own cure applied, and proves it."""
    option = f"--security-opt=seccomp={request.getfixturevalue(profile)}"
    done = pods.podman("run", "--rm", "--network=none", option, IMAGE, "doctor", "--json", check=False, patience=200)
    said = json.loads(done.stdout)
    assert {each["name"]: each["host"] for each in said["levels"]} == LEVELS[profile]
    leaked = {each["way"] for each in said["proof"]["ways"] if each["result"] == "leaked"}
    assert (said["status"], bool(leaked)) == ((0, False) if LEVELS[profile]["fence"] else (1, True))
    if leaked:
        assert any("allow unshare" in each and "seccomp profile" in each for each in said["change"])
