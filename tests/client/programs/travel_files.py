"""Files of sockets that are pickled with what they have read ahead: natively there is no such thing."""

import contextlib
import copy
import gc
import io
import itertools
import pickle
import select
import socket
import warnings

from harness import PATIENCE, main, pair, raises

TEXT = "grüße\nzwei\rdrei\r\nvier ☃\n\nsechs"
ENCODINGS = ("utf-8", "latin-1", "utf-16", "utf-16-le", "utf-8-sig", "shift_jis", "ascii")
NEWLINES = (None, "", "\n", "\r", "\r\n")


def ways():
    """Yield every way to pickle and open again: each protocol, by C and by Python."""
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        yield lambda value, p=protocol: pickle.loads(pickle.dumps(value, p))
    yield lambda value: pickle._loads(pickle._dumps(value))
    yield copy.deepcopy  # a shallow copy of a file shares what is below it


def reopened(value):
    """Pickle and open again."""
    return pickle.loads(pickle.dumps(value))


@contextlib.contextmanager
def both(way, file, sock):
    """Open a file and its socket again, and close both."""
    other, below = way((file, sock))
    with below, other:
        yield other


def text_for(encoding):
    """Return what of the text an encoding can say."""
    return TEXT.encode(encoding, "ignore").decode(encoding)


def arrive(sock, peer, data):
    """Have data come, all of it."""
    peer.sendall(data)
    while len(sock.recv(len(data) + 1, socket.MSG_PEEK)) < len(data):
        select.select([sock], [], [], PATIENCE)


def lines_of(data, encoding, newline):
    """Return what a file of the disk makes of these bytes."""
    return list(io.TextIOWrapper(io.BytesIO(data), encoding, newline=newline))


def check_every_mode():
    """A file of each mode and buffering comes out of every protocol as one of the same type, mode and abilities."""
    for mode in ("r", "w", "rw", "rb", "wb", "rwb"):
        for buffering in (None, 0, 1, 4096):
            if buffering == 0 and "b" not in mode:
                continue
            with pair() as (sock, peer), sock.makefile(mode, buffering) as file:
                for way in ways():
                    with both(way, file, sock) as other:
                        assert type(other) is type(file)
                        assert (other.readable(), other.writable()) == (file.readable(), file.writable())
                        assert getattr(other, "mode", None) == getattr(file, "mode", None)
                        if "r" in mode:
                            peer.sendall(b"line\n")
                            assert other.readline() == ("line\n" if "b" not in mode else b"line\n")
                        if "w" in mode:
                            other.write("x" if "b" not in mode else b"x")
                            other.flush()
                            assert peer.recv(9) == b"x"


def check_buffered_bytes():
    """What a file of bytes has read ahead goes along and stays as well: both go on at the same place."""
    data = b"one\ntwo\nthree\n" * 50
    for mode, way in itertools.product(("rb", "rwb"), ways()):
        with pair() as (sock, peer), sock.makefile(mode) as file:
            arrive(sock, peer, data)
            assert file.readline() == b"one\n"
            assert file.read(2) == b"tw"
            with both(way, file, sock) as other:
                for each in (other, file):
                    assert each.readline() == b"o\n"
                    assert each.read(len(data) - 8) == data[8:]
                peer.sendall(b"next\n")
                assert other.readline() == b"next\n"


def check_more_ahead_than_a_buffer():
    """Bytes read ahead by a file with a large buffer travel whole, and again from the copy."""
    data = bytes(range(256)) * 128
    with pair() as (sock, peer), sock.makefile("rb", 1 << 18) as file:
        arrive(sock, peer, data)
        assert file.read(10) == data[:10]
        ahead = file.peek(1)
        other, below = reopened((file, sock))
        with other, below, both(reopened, other, below) as third:
            assert third.peek(1) == other.peek(1) == ahead
            assert third.read(len(ahead)) == ahead


def check_text():
    """Text in every encoding with every rule for ends of lines goes on in the copy and the original, at any place."""
    for encoding, newline in itertools.product(ENCODINGS, NEWLINES):
        data = text_for(encoding).encode(encoding)
        lines = lines_of(data, encoding, newline)
        for taken in range(1, len(lines)):
            with pair() as (sock, peer), sock.makefile("r", encoding=encoding, newline=newline) as file:
                arrive(sock, peer, data)
                peer.shutdown(socket.SHUT_WR)
                for line in lines[:taken]:
                    assert file.readline() == line
                with both(reopened, file, sock) as other:
                    assert (other.encoding, other.errors, other.newlines) == (
                        file.encoding,
                        file.errors,
                        other.newlines,
                    )
                    assert list(other) == lines[taken:], (encoding, newline, taken)
                    assert list(file) == lines[taken:], (encoding, newline, taken)


def check_text_that_was_read_by_pieces():
    """After reads of single characters the copy goes on with the next one, by every way to pickle."""
    for encoding, newline in itertools.product(ENCODINGS, NEWLINES):
        data = text_for(encoding).encode(encoding)
        whole = "".join(lines_of(data, encoding, newline))
        for taken in (1, 3, 7, 11):
            with pair() as (sock, peer), sock.makefile("r", encoding=encoding, newline=newline) as file:
                arrive(sock, peer, data)
                peer.shutdown(socket.SHUT_WR)
                assert file.read(taken) == whole[:taken]
                for way in ways():
                    with both(way, file, sock) as other:
                        seen = other.read(1)
                        assert seen == whole[taken], (encoding, newline, taken, seen, whole[taken])
                assert file.read() == whole[taken:]


def check_a_character_in_two_pieces():
    """Bytes that end within a character wait with the file, and what comes next completes it: once in all."""
    for encoding in ("utf-8", "utf-16", "utf-16-le", "shift_jis"):
        character = "ä" if encoding != "shift_jis" else "あ"
        data = ("one\nab" + character).encode(encoding)
        for held in range(1, len(character.encode(encoding.replace("utf-16", "utf-16-le").replace("-le-le", "-le")))):
            for reader in ("copy", "original"):
                with pair() as (sock, peer), sock.makefile("r", encoding=encoding) as file:
                    arrive(sock, peer, data[:-held])
                    assert file.readline() == "one\n"
                    with both(reopened, file, sock) as other:
                        peer.sendall(data[-held:])
                        peer.shutdown(socket.SHUT_WR)
                        assert (other if reader == "copy" else file).read() == "ab" + character, (encoding, held)


def check_the_other_order_of_bytes():
    """Text that began with a mark for the other order of bytes goes on in that order, also when all of it is read."""
    for encoding, mark in (("utf-16", b"\xfe\xff"), ("utf-32", b"\x00\x00\xfe\xff")):
        plain = encoding + "-be"
        for taken in range(5):
            with pair() as (sock, peer), sock.makefile("r", encoding=encoding) as file:
                arrive(sock, peer, mark + "ab\u20ac\n".encode(plain))
                assert file.read(taken) == "ab\u20ac\n"[:taken]
                with both(reopened, file, sock) as other:
                    if taken:
                        assert other.read(4 - taken) == "ab\u20ac\n"[taken:]
                        peer.sendall("d\n".encode(plain))
                        assert other.readline() == "d\n"


def check_a_pending_return():
    """A carriage return at the end of what came may be half of an end of line: the rest decides, in the copy too."""
    for newline, then, expected in itertools.product((None, ""), ("\nb\n", "b\n"), ("copy", "original")):
        data = "one\ntwo\r"
        lines = lines_of((data + then).encode(), "utf-8", newline)
        with pair() as (sock, peer), sock.makefile("r", encoding="utf-8", newline=newline) as file:
            arrive(sock, peer, data.encode())
            assert file.readline() == lines[0]
            with both(reopened, file, sock) as other:
                peer.sendall(then.encode())
                peer.shutdown(socket.SHUT_WR)
                assert list(other if expected == "copy" else file) == lines[1:], (newline, then)


def check_what_cannot_be_put_back():
    """Where the bytes read ahead do not follow from their characters, pickling refuses, and the file goes on."""
    with pair() as (sock, peer), sock.makefile("r", encoding="ascii", errors="replace") as file:
        arrive(sock, peer, b"one\nb\xffd\n")
        assert file.readline() == "one\n"
        with raises(TypeError) as seen:
            pickle.dumps(file)
        assert str(seen.error).startswith("cannot pickle a text file of a socket")
        assert file.readline() == "b\ufffdd\n"


def check_surrogates():
    """Bytes that are no text, kept by ``surrogateescape``, travel."""
    with pair() as (sock, peer), sock.makefile("r", encoding="utf-8", errors="surrogateescape") as file:
        arrive(sock, peer, b"one\nb\xffd\n")
        assert file.readline() == "one\n"
        with both(reopened, file, sock) as other:
            assert other.readline() == file.readline() == "b\udcffd\n"


def check_written_bytes_are_sent_once():
    """What was written and not flushed is sent when it is pickled, and by nobody again."""
    for mode in ("w", "wb", "rw", "rwb"):
        with pair() as (sock, peer):
            file = sock.makefile(mode)
            file.write("before" if "b" not in mode else b"before")
            data = pickle.dumps((file, sock))
            assert peer.recv(99) == b"before"
            other, below = pickle.loads(data)
            other.write("after" if "b" not in mode else b"after")
            other.close()
            below.close()
            assert peer.recv(99) == b"after"
            file.close()
            sock.close()
            assert peer.recv(1) == b""


def check_line_buffering():
    """A text file that is flushed at each line does so in the copy."""
    with pair() as (sock, peer), sock.makefile("w") as file:
        file.reconfigure(line_buffering=True)
        with both(reopened, file, sock) as other:
            assert other.line_buffering
            other.write("line\n")
            assert peer.recv(9) == b"line\n"


def check_small_buffers():
    """A file with a buffer of one byte sends what does not fit in there at once, and so does its copy."""
    for mode in ("wb", "rwb"):
        with pair() as (sock, peer), sock.makefile(mode, 1) as file, both(reopened, file, sock) as other:
            for each in (file, other):
                each.write(b"at once")
                assert peer.recv(9) == b"at once"


def check_newlines_of_what_is_written():
    """What ends a line in what is written is the same in the copy."""
    for newline in NEWLINES:
        with pair() as (sock, peer), sock.makefile("w", encoding="utf-8", newline=newline) as file:
            file.write("a\n")
            file.flush()
            before = peer.recv(9)
            with both(reopened, file, sock) as other:
                other.write("a\n")
                other.flush()
                assert peer.recv(9) == before, newline


def check_from_copy_to_copy():
    """A file that is pickled, opened, read from and pickled again five times over gives each line once."""
    for mode, encoding in (("rb", None), ("rwb", None), ("r", "utf-8"), ("rw", "utf-16"), ("r", "shift_jis")):
        lines = [f"line {n}\n" for n in range(12)]
        data = "".join(lines).encode(encoding or "ascii")
        with pair() as (sock, peer):
            file = sock.makefile(mode, encoding=encoding)
            arrive(sock, peer, data)
            peer.shutdown(socket.SHUT_WR)
            for line in lines[:5]:
                assert file.readline() == (line if encoding else line.encode())
                before = file, sock
                file, sock = reopened(before)
                for each in before:
                    each.close()
            assert file.read() == ("".join(lines[5:]) if encoding else "".join(lines[5:]).encode())
            file.close()
            sock.close()


def check_over_udp():
    """A file of a UDP socket travels as well."""
    kind = socket.AF_INET, socket.SOCK_DGRAM
    with socket.socket(*kind) as peer, socket.socket(*kind) as sock:
        peer.bind(("127.0.0.1", 0))
        peer.settimeout(PATIENCE)
        sock.settimeout(PATIENCE)
        sock.connect(peer.getsockname())
        with sock.makefile("rwb") as file, both(reopened, file, sock) as other:
            other.write(b"dgram")
            other.flush()
            data, origin = peer.recvfrom(99)
            assert data == b"dgram"
            peer.sendto(b"answer\n", origin)
            assert other.readline() == b"answer\n"


def check_a_time_out_within_a_line():
    """A line of which half has come when the time is up is whole in the copy when the rest has come."""
    with pair() as (sock, peer):
        sock.settimeout(0.05)
        with sock.makefile("rb") as file:
            peer.sendall(b"half")
            with raises(socket.timeout):
                file.readline()
            with raises(OSError):
                file.readline()  # as natively: a file that has timed out is read no more
        with sock.makefile("rb") as file:
            peer.sendall(b"one\nhalf")
            sock.settimeout(PATIENCE)
            assert file.readline() == b"one\n"
            with both(reopened, file, sock) as other:
                peer.sendall(b" and half\n")
                assert other.readline() == b"half and half\n"


def check_a_file_alone():
    """A file that travels without its socket has one of its own, which ends when both are forgotten, with a warning."""
    with pair() as (sock, peer):
        file = sock.makefile("rwb")
        data = pickle.dumps(file)
        file.close()
        sock.close()
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            other = pickle.loads(data)
            other.write(b"x")
            other.close()
            assert peer.recv(9) == b"x"
            del other
            gc.collect()
        assert [each.category for each in seen] == [ResourceWarning]
        assert peer.recv(1) == b""


def check_closed_and_detached():
    """Closed and detached files refuse, in C's words."""
    with pair() as (sock, _):
        words = []
        for file in (sock.makefile("rb"), sock.makefile("r")):
            file.close()
            words.append(file)
        detached = sock.makefile("r")
        inner = detached.detach()
        words.append(detached)
        for file in words:
            for call in (pickle.dumps, copy.copy):
                with raises((TypeError, ValueError)):
                    call(file)
        inner.close()


if __name__ == "__main__":
    main(globals())
