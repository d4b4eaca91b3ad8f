"""Keep beside the database what it has not taken: one small file a run, for the next gate should this one end.

The batches go in under their numbers, so that it does no harm if the database had taken one and could not say so.
"""

from __future__ import annotations

import json
import os
from typing import Any, NamedTuple

from outgate.core.bill.tally import Counts, Destination, Rows
from outgate.errors import ConfigError
from outgate.gate.ledger.batch import Batch, Key, Totals

__all__ = ["Spooled", "leftovers", "load", "path_of", "put_aside", "remove", "save"]

_VERSION = 2


class Spooled(NamedTuple):
    """What a run of a gate has left.

    :ivar ledger: which it is for, by its URL without the password. In another one the numbers of its batches are not
        known, and what the first had taken would be counted twice.
    """

    gate: str
    run: str
    ledger: str
    began: float
    batches: list[Batch]


def path_of(folder: str, run: str) -> str:
    """Return the file of a run."""
    return os.path.join(folder, f"ledger-{run}.spool")


def leftovers(folder: str, run: str) -> list[str]:
    """Return the files that other runs have left, oldest first."""
    try:
        names = [name for name in os.listdir(folder) if name.startswith("ledger-") and name.endswith(".spool")]
    except OSError:
        return []
    paths = [os.path.join(folder, name) for name in names]
    return sorted((path for path in paths if path != path_of(folder, run)), key=os.path.getmtime)


def put_aside(path: str, why: str) -> None:
    """Take a file that cannot be booked out of the way, and leave it for people to look at.

    :param why: one word, which its name ends in.
    """
    os.replace(path, f"{path}.{why}")


def save(path: str, left: Spooled) -> None:
    """Write the file in place of what was there, whole or not at all. Raises ``OSError``."""
    text = json.dumps({"version": _VERSION, **left._asdict(), "batches": [_plain(batch) for batch in left.batches]})
    temporary = f"{path}.new"
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        with open(fd, "w", encoding="ascii") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError:
        os.unlink(temporary)
        raise


def load(path: str) -> Spooled | None:
    """Return what a gate has left, ``None`` where none has.

    :raises ValueError: the file is damaged; the text says how.
    :raises ConfigError: a newer outgate has left it. It stays.
    """
    try:
        with open(path, encoding="ascii") as file:
            text = file.read()
    except FileNotFoundError:
        return None
    try:
        plain = json.loads(text)
        version = plain.pop("version")
        if isinstance(version, int) and version > _VERSION:
            raise ConfigError(
                f"{path} is of version {version}, newer than this outgate reads, which is {_VERSION}; upgrade outgate: "
                "it has bytes that no ledger has"
            )
        if version not in (1, _VERSION):
            raise ValueError("of another version")
        return Spooled(**{**plain, "batches": [_batch(each) for each in plain["batches"]]})
    except ConfigError:  # a ValueError as well
        raise
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"{path} is damaged ({error})") from None


def remove(path: str) -> None:
    """Remove the file, if there is one."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass


def _plain(batch: Batch) -> dict[str, Any]:
    return {
        "number": batch.number,
        "at": batch.at,
        "seal": batch.seal,
        "rows": [
            [start, app, labels, *destination, *counts]
            for start, of in batch.rows.items()
            for (app, labels, destination), counts in of.items()
        ],
        "open": [[*key, *totals] for key, totals in batch.open.items()],
        "ended": [list(key) for key in batch.ended],
        "forget": [list(key) for key in batch.forget],
    }


def _batch(plain: dict[str, Any]) -> Batch:
    rows: Rows = {}
    for start, app, labels, transport, host, port, address, *counts in plain["rows"]:
        # A gate of version 1 has left four: none of it is exact.
        rows.setdefault(start, {})[app, labels, Destination(transport, host, port, address)] = [*Counts(*counts)]
    return Batch(
        plain["number"],
        plain["at"],
        plain["seal"],
        rows,
        {Key(*each[:2]): Totals(*each[2:]) for each in plain["open"]},
        frozenset(Key(*each) for each in plain["ended"]),
        frozenset(Key(*each) for each in plain["forget"]),
    )
