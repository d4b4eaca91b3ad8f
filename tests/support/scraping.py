"""Fetch a gate's metrics as a scraper does, and read what a query of PromQL asks for."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

#: Seconds after which a wait is taken for a hang.
PATIENCE = 20.0


def connect(address: str) -> socket.socket:
    """Return a connection to where metrics are served: ``host:port``, or the path of a Unix socket."""
    if address.startswith("/"):
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(PATIENCE)
        sock.connect(address)
        return sock
    host, _, port = address.rpartition(":")
    return socket.create_connection((host.strip("[]"), int(port)), PATIENCE)


def exchange(address: str, request: bytes) -> tuple[str, dict[str, str], str]:
    """Send a request as it is and return status, headers and body of the answer, read to its end."""
    with connect(address) as sock:
        sock.sendall(request)
        answer = b"".join(iter(lambda: sock.recv(65536), b""))
    head, _, body = answer.decode().partition("\r\n\r\n")
    status, *lines = head.split("\r\n")
    return status, dict(line.split(": ", 1) for line in lines), body


def page(address: str) -> str:
    """Return the page of metrics."""
    status, _headers, body = exchange(address, b"GET /metrics HTTP/1.1\r\nHost: gate\r\n\r\n")
    assert status == "HTTP/1.1 200 OK"
    return body


class Scrape:
    """One page, read.

    :ivar families: name → the library's own object of each metric.
    """

    def __init__(self, text: str) -> None:
        self.families = {family.name: family for family in text_string_to_metric_families(text)}
        self._samples = {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in self.families.values()
            for sample in family.samples
        }

    def value(self, name: str, **labels: str) -> float | None:
        """Return the value of the one series with just these labels; ``None`` where there is none."""
        return self._samples.get((name, frozenset(labels.items())))

    def total(self, name: str, **labels: str) -> float:
        """Return the sum of the series that have these labels among others."""
        wanted = set(labels.items())
        return sum(value for (found, has), value in self._samples.items() if found == name and wanted <= has)

    def labels(self, name: str) -> set[tuple[str, ...]]:
        """Return the sets of label names under which a series is there."""
        return {tuple(sorted(key for key, _ in has)) for found, has in self._samples if found == name}


def scrape(address: str) -> Scrape:
    """Fetch the page and read it."""
    return Scrape(page(address))


#: A metric and, where they follow, its matchers.
_SELECTOR = re.compile(r"\b((?:outgate|process)_[a-z0-9_]+)\s*(?:\{([^}]*)\})?")
_GROUPED = re.compile(r"\b(?:by|on|without|ignoring)\s*\(([^)]*)\)")
#: Labels that Prometheus adds to every series that it fetches.
ADDED = frozenset({"job", "instance"})


def asked(expression: str) -> Iterator[tuple[str, set[str]]]:
    """Give every metric that a query names, with the labels that it matches on."""
    for name, matchers in _SELECTOR.findall(expression):
        yield name, {label.strip() for label in re.findall(r"([a-z_]+)\s*(?:=~|!~|!=|=)", matchers)}


def grouped(expression: str) -> set[str]:
    """Return the labels that a query groups or joins by."""
    return {label.strip() for group in _GROUPED.findall(expression) for label in group.split(",") if label.strip()}


def dashboard_queries(value: Any) -> Iterator[str]:
    """Give every query of a dashboard of Grafana's, its variables among them."""
    if isinstance(value, dict):
        for key, item in value.items():
            if key in ("expr", "definition") and isinstance(item, str):
                yield item
            else:
                yield from dashboard_queries(item)
    elif isinstance(value, list):
        for item in value:
            yield from dashboard_queries(item)


def rule_queries(path: Path) -> Iterator[str]:
    """Give every query of a file of rules of Prometheus's: what stands behind ``expr:``, on one line or folded."""
    lines = path.read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines):
        if not line.strip().startswith("expr:"):
            continue
        text = line.split("expr:", 1)[1].strip()
        if text == ">-":
            indent = len(line) - len(line.lstrip())
            folded = []
            for each in lines[number + 1 :]:
                if len(each) - len(each.lstrip()) <= indent:
                    break
                folded.append(each.strip())
            text = " ".join(folded)
        yield text
