"""Say what machine and what software the figures are of."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import resource
import subprocess
import time
from pathlib import Path

import outgate


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return "unknown"


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _processor() -> str:
    for line in _read("/proc/cpuinfo").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _commit() -> str:
    """Return what git calls the tree, with a word where it has changes; empty outside of a checkout."""
    argv = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty=, changed"]
    try:
        return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=10).stdout.strip()
    except OSError:
        return ""


def collect() -> dict[str, object]:
    """Return the facts that the figures depend on."""
    return {
        "date": time.strftime("%Y-%m-%d %H:%M", time.gmtime()),
        "commit": _commit(),
        "kernel": platform.release().partition("-")[0],  # what follows is the name of somebody's build
        "processor": _processor(),
        "cpus": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "outgate": outgate.__version__,
        "uvloop": _version("uvloop"),
        "msgspec": _version("msgspec"),
        "congestion_control": _read("/proc/sys/net/ipv4/tcp_congestion_control"),
        "tcp_fastopen": _read("/proc/sys/net/ipv4/tcp_fastopen"),
        "tcp_tw_reuse": _read("/proc/sys/net/ipv4/tcp_tw_reuse"),
        "open_files": resource.getrlimit(resource.RLIMIT_NOFILE)[1],
        "load_before": round(os.getloadavg()[0], 2),
    }
