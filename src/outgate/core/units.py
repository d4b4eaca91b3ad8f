"""The units of bytes, as people write them in quotas and prices."""

from typing import Final, Mapping

__all__ = ["BYTES"]

#: Unit → how many bytes.
BYTES: Final[Mapping[str, int]] = {
    "B": 1,
    "kB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
    "TiB": 2**40,
}
