"""Checks of ``outgate.narrow``, as a program calls it. Each runs in a child: what it gives up is gone for good."""

import json
import os
import socket
import subprocess
import sys
import threading

from harness import main, raises

import outgate
from outgate.errors import ConfigError, LookUpDenied, PolicyDenied


def listener():
    """Return a listening socket and its port."""
    sock = socket.create_server(("127.0.0.1", 0))
    return sock, sock.getsockname()[1]


def can(port):
    """Tell whether a connect to a port of loopback is let through; only a refusal by policy is a no."""
    refused = None
    try:
        socket.create_connection(("127.0.0.1", port), timeout=10).close()
    except PolicyDenied as error:
        refused = str(error)
    assert refused is None or "narrowed by the program itself" in refused, refused
    return refused is None


def in_child(function):
    """Run a check in a forked child, and raise here what it raised there."""

    def check():
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                function()
                os.write(write, b"ok")
            except BaseException as error:
                os.write(write, repr(error).encode()[:4000])
            finally:
                os._exit(0)
        os.close(write)
        with open(read, "rb") as pipe:
            said = pipe.read()
        os.waitpid(child, 0)
        assert said == b"ok", said

    check.__name__, check.__doc__ = function.__name__, function.__doc__
    return check


def probe(port):
    """Return a program that connects to a port of loopback."""
    return f"import socket; socket.create_connection(('127.0.0.1', {port}), timeout=10)"


def spawned(port, **options):
    """Return the class of the error that a spawned interpreter meets on a connect, "" for none."""
    code = f"try:\n    {probe(port)}\nexcept OSError as e:\n    print(type(e).__name__)"
    command = [sys.executable, "-c", code]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, **options).stdout.strip()


@in_child
def check_what_is_left():
    """Only what the rules leave can be connected to from now on, and what is open stays open."""
    with listener()[0] as one, listener()[0] as other:
        ports = one.getsockname()[1], other.getsockname()[1]
        opened = socket.create_connection(("127.0.0.1", ports[1]))
        accepted, _ = other.accept()
        born = socket.socket()  # a socket of the pool, from before
        outgate.narrow(allow=[f"127.0.0.1:{ports[0]}"])
        assert (can(ports[0]), can(ports[1])) == (True, False)
        with raises(PolicyDenied):
            born.connect(("127.0.0.1", ports[1]))
        opened.sendall(b"still open")
        assert accepted.recv(100) == b"still open"
        for sock in (opened, accepted, born):
            sock.close()


@in_child
def check_before_the_first_socket():
    """It works as the first thing that a process asks of the gate."""
    code = f"import outgate; outgate.narrow(allow=[]); {probe(1)}"
    done = subprocess.run([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True)
    assert "PolicyDenied" in done.stderr, done.stderr


@in_child
def check_it_only_shrinks():
    """Said again, or with more, it leaves what every narrowing leaves."""
    with listener()[0] as one, listener()[0] as other:
        ports = one.getsockname()[1], other.getsockname()[1]
        outgate.narrow(deny=[f"127.0.0.1:{ports[1]}"])
        assert (can(ports[0]), can(ports[1])) == (True, False)
        for _ in range(20):
            outgate.narrow(allow=["*"])
        outgate.narrow()
        assert (can(ports[0]), can(ports[1])) == (True, False)
        outgate.narrow(allow=[f"127.0.0.1:{ports[1]}"])
        assert (can(ports[0]), can(ports[1])) == (False, False)


@in_child
def check_children_have_no_more():
    """Forked and spawned children are narrowed, also without the environment, and may narrow themselves further."""
    with listener()[0] as one, listener()[0] as other:
        ports = one.getsockname()[1], other.getsockname()[1]
        outgate.narrow(deny=[f"127.0.0.1:{ports[1]}"])
        in_child(lambda: None)()
        assert json.loads(os.environ["OUTGATE_NARROW"])[-1]["deny"] == [f"127.0.0.1:{ports[1]}"]
        scrubbed = {name: value for name, value in os.environ.items() if name != "OUTGATE_NARROW"}
        for environ in (None, scrubbed):
            assert spawned(ports[1], env=environ) == "PolicyDenied"
            assert spawned(ports[0], env=environ) == ""

        def child():
            assert (can(ports[0]), can(ports[1])) == (True, False)
            outgate.narrow(allow=[])
            assert not can(ports[0])

        in_child(child)()
        assert can(ports[0]), "what a child gives up is the child's"


@in_child
def check_a_broken_environment_holds_all_back():
    """Where the environment has no narrowing but something else, nothing goes out, and the reason is said."""
    environ = {**os.environ, "OUTGATE_NARROW": '{"allow": '}
    done = subprocess.run([sys.executable, "-c", probe(1)], stderr=subprocess.PIPE, text=True, env=environ)
    assert "OUTGATE_NARROW is not what outgate.narrow() has written" in done.stderr, done.stderr


@in_child
def check_names():
    """A name that no rule left allows is not looked up, and that is a look-up that failed."""
    outgate.narrow(allow=["api.example:443"], names=["*.corp"])
    with raises(LookUpDenied) as caught:
        socket.getaddrinfo("evil.example", 443)
    assert isinstance(caught.error, socket.gaierror)
    assert "narrowed by the program itself" in str(caught.error)


@in_child
def check_datagrams():
    """A UDP socket asks anew for where it has sent before, and the refusal is raised by the call that sends."""
    kind = socket.AF_INET, socket.SOCK_DGRAM
    with socket.socket(*kind) as peer, socket.socket(*kind) as sock:
        peer.bind(("127.0.0.1", 0))
        address = peer.getsockname()
        sock.sendto(b"before", address)
        outgate.narrow(deny=[f"127.0.0.1:{address[1]}"])
        with raises(PolicyDenied) as caught:
            sock.sendto(b"after", address)
        assert "narrowed by the program itself" in str(caught.error)


@in_child
def check_bad_rules():
    """What is no rule raises ConfigError, a ValueError, with place and hint; wrong types TypeError; nothing changes."""
    with listener()[0] as one:
        port = one.getsockname()[1]
        for fields, kind, text in (
            ({"allow": ["no rule"]}, ConfigError, "narrow.allow[0]: "),
            ({"deny": ["10.2.*"]}, ValueError, "narrow.deny[0]: "),
            ({"names": ["a b"]}, ConfigError, "narrow.names[0]: "),
            ({"allow": ["public"] * 257}, ConfigError, "more than 256 rules"),
            ({"allow": ["x" * 321]}, ConfigError, "characters"),
            ({"deny": [f"127.{i}.0.1" for i in range(200)], "allow": ["a" * 300] * 250}, ConfigError, "rules"),
            ({"allow": "public"}, TypeError, "allow=['public']"),
            ({"deny": [7]}, TypeError, "a rule is text, not int"),
            ({"deny": None}, TypeError, "not iterable"),
        ):
            with raises(kind) as caught:
                outgate.narrow(**fields)
            assert text in str(caught.error), caught.error
        assert "OUTGATE_NARROW" not in os.environ
        assert can(port)


@in_child
def check_threads():
    """Many threads may narrow and connect at once; in the end all of it holds."""
    with listener()[0] as one:
        one.listen(1000)
        port = one.getsockname()[1]
        errors = []

        def work(number):
            try:
                for _ in range(5):
                    outgate.narrow(deny=[f"127.0.1.{number}"])
                    assert can(port)
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert errors == []
        for number in range(8):
            with raises(PolicyDenied):
                socket.create_connection((f"127.0.1.{number}", port), timeout=10)
        assert can(port)


if __name__ == "__main__":
    main(globals())
