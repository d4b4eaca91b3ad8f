"""A file system whose pages come when the test says so, by the kernel's own protocol (fuse(4), linux/fuse.h).

Whoever sends from memory that is such a file keeps, in the kernel, the lock of the socket until the page has come.
Mounting takes root.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import stat
import struct
import tempfile
import threading
from collections.abc import Iterator

_LOOKUP, _FORGET, _GETATTR, _OPEN, _READ, _RELEASE, _FLUSH, _INIT, _INTERRUPT = 1, 2, 3, 14, 15, 18, 25, 26, 36
_BATCH_FORGET = 42
_SILENT = frozenset((_FORGET, _BATCH_FORGET, _INTERRUPT))
#: ``struct fuse_in_header``, ``fuse_out_header``, ``fuse_init_out``, ``fuse_open_out``.
_IN = struct.Struct("=IIQQIIII")
_OUT = struct.Struct("=IiQ")
_INIT_OUT = struct.Struct("=IIIIHHIIHHI28x")
_OPEN_OUT = struct.Struct("=QII")
#: ``struct fuse_attr``; and what comes before it in ``fuse_entry_out`` and ``fuse_attr_out``.
_ATTR = struct.Struct("=QQQQQQIIIIIIIIII")
_ENTRY = struct.Struct("=QQQQII")
_ATTR_OUT = struct.Struct("=QII")
#: ``struct fuse_read_in`` up to its size.
_READ_IN = struct.Struct("=QQI")
_ENOSYS = 38
_ROOT = 1
_YEAR = 365 * 86400
#: Bytes of each file.
SIZE = 1 << 20
_MNT_DETACH = 2
_libc = ctypes.CDLL(None, use_errno=True)


class Pages:
    """A mounted folder in which every name is a file, and no page comes before :meth:`let_come`.

    :ivar folder: where it is mounted.
    """

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self._device = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
        options = f"fd={self._device},rootmode=40000,user_id=0,group_id=0,allow_other"
        if _libc.mount(b"pages", folder.encode(), b"fuse", 0, options.encode()) != 0:
            number = ctypes.get_errno()
            os.close(self._device)
            raise OSError(number, f"mount: {os.strerror(number)}")
        self._lock = threading.Condition()
        self._names: dict[bytes, int] = {}
        self._waiting: list[tuple[int, int]] = []
        self._comes = False
        self._stops, self._stop = os.pipe()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def __enter__(self) -> Pages:
        return self

    def __exit__(self, *_: object) -> None:
        """Have all pages come, so that whoever waits for one can end."""
        self.let_come()

    def path(self, name: str) -> str:
        """Return the path of a file."""
        return os.path.join(self.folder, name)

    def wait_for(self, count: int, patience: float) -> bool:
        """Wait until so many pages are waited for, and tell whether they are."""
        with self._lock:
            return self._lock.wait_for(lambda: len(self._waiting) >= count, patience)

    def let_come(self) -> None:
        """Have the pages that are waited for come, and every further one at once."""
        with self._lock:
            self._comes = True
            waiting, self._waiting = self._waiting, []
        for unique, size in waiting:
            self._answer(unique, bytes(size))

    def close(self) -> None:
        """End it: what still waits for a page gets an error."""
        _libc.umount2(self.folder.encode(), _MNT_DETACH)
        os.write(self._stop, b"\0")
        self._thread.join()
        os.close(self._device)
        os.close(self._stops)
        os.close(self._stop)

    def _serve(self) -> None:
        while True:
            readable, _, _ = select.select([self._device, self._stops], [], [])
            if self._stops in readable:
                return
            try:
                packet = os.read(self._device, 1 << 17)
            except OSError:  # unmounted, or the question was taken back
                return
            _, opcode, unique, node, *_ = _IN.unpack_from(packet)
            self._on_question(opcode, unique, node, packet[_IN.size :])

    def _on_question(self, opcode: int, unique: int, node: int, body: bytes) -> None:
        if opcode in _SILENT:
            return
        if opcode == _READ:
            _, _, size = _READ_IN.unpack_from(body)
            with self._lock:
                if not self._comes:
                    self._waiting.append((unique, size))
                    self._lock.notify_all()
                    return
            self._answer(unique, bytes(size))
        elif opcode == _INIT:
            self._answer(unique, _INIT_OUT.pack(7, 31, 0, 0, 16, 12, 4096, 1, 1, 0, 0))
        elif opcode == _LOOKUP:
            number = self._names.setdefault(body, _ROOT + 1 + len(self._names))
            self._answer(unique, _ENTRY.pack(number, 0, _YEAR, _YEAR, 0, 0) + _attributes(number))
        elif opcode == _GETATTR:
            self._answer(unique, _ATTR_OUT.pack(_YEAR, 0, 0) + _attributes(node))
        elif opcode == _OPEN:
            self._answer(unique, _OPEN_OUT.pack(0, 0, 0))
        elif opcode in (_RELEASE, _FLUSH):
            self._answer(unique, b"")
        else:
            self._answer(unique, b"", _ENOSYS)

    def _answer(self, unique: int, body: bytes, error: int = 0) -> None:
        with contextlib.suppress(OSError):  # who waited has been killed
            os.write(self._device, _OUT.pack(_OUT.size + len(body), -error, unique) + body)


def _attributes(node: int) -> bytes:
    mode = stat.S_IFDIR | 0o755 if node == _ROOT else stat.S_IFREG | 0o644
    return _ATTR.pack(node, SIZE, SIZE // 512, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, 4096, 0)


@contextlib.contextmanager
def pages() -> Iterator[Pages]:
    """Have such a folder while the block runs."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        place = os.path.join(folder, "pages")
        os.mkdir(place)
        made = Pages(place)
        try:
            yield made
        finally:
            made.close()
