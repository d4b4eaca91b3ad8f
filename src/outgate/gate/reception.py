"""Receive programs: accept their channels, know by the kernel who they are, and which app that is."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING

from outgate.core.bill import labels
from outgate.core.formats import messages
from outgate.core.policy.decide import Policy
from outgate.errors import ConfigError, Refusal, build
from outgate.gate import wire
from outgate.gate.channel import Channel, Peer, network_namespace, peer_of
from outgate.gate.configuration.settings import AppSettings
from outgate.gate.kernel import births
from outgate.gate.kernel.closer import Closer
from outgate.gate.kernel.listening import listen
from outgate.gate.names.resolver import Resolver
from outgate.gate.registry import App, Process

if TYPE_CHECKING:
    from outgate.gate.server import Gate

#: Channels of one user: a request channel per thread in flight, and free ones. Fewer where descriptors are few.
MOST_CHANNELS = 4096

#: Seconds in which a drained gate still answers who asked for it.
_LAST_REPLY = 0.05


class Reception:
    """The channels of a gate, and the processes they come from.

    :ivar listeners: the listening sockets, and the app whose own each is; "" is the gate's, open to all apps.
    """

    def __init__(self, gate: Gate, listener: socket.socket) -> None:
        self._gate = gate
        #: Called whenever a channel or a socket has gone.
        self.on_release: Callable[[], None] | None = None
        self.channels: dict[Channel, int] = {}
        self.listeners: dict[socket.socket, str] = {}
        #: Where the apps' own are.
        self._paths: dict[socket.socket, str] = {}
        self._by_uid: dict[int, int] = {}
        self._most = min(MOST_CHANNELS, max(8, gate.limits.descriptors // 8))
        self._stray_closers: dict[int, Closer] = {}
        self._ungreeted: set[Channel] = set()
        self._namespace = network_namespace("self")
        #: Root and the gate's own user may ask about the gate without being an app.
        self.operator = App(
            AppSettings("", Policy.build("", allow=()), billing=False), Closer("operator"), Resolver("operator")
        )
        self.listen(listener)
        self._housekeeping = gate.loop.call_later(1.0, self._keep_house)

    def listen(self, listener: socket.socket, app: str = "") -> None:
        """Accept channels there.

        :param app: whose every caller is: who can reach the socket is the app, by its path alone.
        """
        self.listeners[listener] = app
        # A channel inherits it; where the kernel has it not, a packet may bring fds.
        strays = not births.take_no_fds(listener)
        listener.setblocking(False)
        self._gate.loop.add_reader(listener.fileno(), self._on_connection, listener, app, strays)

    def follow(self, apps: Mapping[str, AppSettings], mode: int) -> None:
        """Listen at the sockets that are apps' own, and no more at those of apps that have none any more.

        :param mode: permissions of new ones.
        :raises ConfigError: one of the paths cannot be used; nothing has changed then.
        """
        wanted = {app.socket: name for name, app in apps.items() if app.socket}
        known = {
            path: listener for listener, path in self._paths.items() if self.listeners[listener] == wanted.get(path)
        }
        made: dict[str, socket.socket] = {}
        try:
            for path in wanted.keys() - known:
                made[path] = listen(path, mode, f"apps.{wanted[path]}.socket")
        except ConfigError:
            for path, listener in made.items():
                listener.close()
                os.unlink(path)
            raise
        for listener, path in list(self._paths.items()):
            if path not in known:
                self._stop_listening(listener)
        for path, listener in made.items():
            self._paths[listener] = path
            self.listen(listener, wanted[path])

    def _stop_listening(self, listener: socket.socket) -> None:
        self._gate.loop.remove_reader(listener.fileno())
        listener.close()
        del self.listeners[listener]
        path = self._paths.pop(listener, None)
        if path is not None:
            with contextlib.suppress(OSError):
                os.unlink(path)

    def _on_connection(self, listener: socket.socket, app: str, strays: bool) -> None:
        gate = self._gate
        for _ in range(64):
            try:
                sock, _address = listener.accept()
            except BlockingIOError:
                return
            except OSError as e:  # EMFILE: the channels that are open go on
                gate.log.event("accept-failed", reason=str(e))
                gate.loop.remove_reader(listener.fileno())
                gate.loop.call_later(0.1, partial(self._accept_again, listener, app, strays))
                return
            peer = peer_of(sock)
            if self._by_uid.get(peer.uid, 0) >= self._most:
                self.stray_closer(peer.uid).put(sock)
                continue
            self._by_uid[peer.uid] = self._by_uid.get(peer.uid, 0) + 1
            channel = Channel(gate, sock, peer, strays, app)
            self.channels[channel] = peer.uid
            self._ungreeted.add(channel)

    def _accept_again(self, listener: socket.socket, app: str, strays: bool) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._gate.loop.add_reader(listener.fileno(), self._on_connection, listener, app, strays)

    def stray_closer(self, uid: int) -> Closer:
        """Return what closes the things of a user that are no app's: channels without a hello, fds that came in."""
        closer = self._stray_closers.get(uid)
        if closer is None:
            closer = self._stray_closers[uid] = Closer(f"strays-{uid}")
        return closer

    def is_operator(self, uid: int) -> bool:
        """Whether this user runs the gate, or could take it over anyway."""
        return uid in (0, os.getuid())

    def may_manage(self, process: Process) -> bool:
        """Whether a process may change what the gate does: its operator's, unless the gate is what holds it.

        A program of the gate's own user in the fence or under a guard could else take the gate over, sockets and all.
        Root could leave the fence anyway.
        """
        return self.is_operator(process.uid) and (process.uid == 0 or not process.fenced)

    def join(self, channel: Channel, hello: wire.Greeting, asks: bool = False) -> Process:
        """Return the process that a greeting belongs to, known or new.

        :param asks: whether its request is about the gate, which its operator may ask without being an app.
        :raises outgate.errors.GateError: no app is configured for its user, or no protocol version in common.
        """
        oldest, newest = hello.v
        if not messages.agreed(oldest, newest):
            raise build("version", {"client": newest, "gate": messages.VERSION})
        gate, peer = self._gate, channel.peer
        self._ungreeted.discard(channel)
        known = gate.registry.processes.get((peer.uid, hello.token))
        if known is not None and known.is_returned:
            if self._app_of(channel, hello.identity, asks) is not known.app:  # so says the configuration by now
                gate.registry.set_aside(known)
                known = None
            else:
                known.is_returned = False
        if known is not None:
            if channel.app_name not in ("", known.app.name):  # it came as another app before
                raise build("no-app", {"uid": peer.uid})
            shown = gate.settings.of_token(hello.identity) if hello.identity and not channel.app_name else None
            if shown is not None and shown.name != known.app.name:
                raise self._wrong_token(channel)
            if not known.channels:
                gate.ending.taken_back(known)
            if not known.guarded and known.pid == hello.pid != peer.pid:  # it came back from a gate that died
                known.guarded = self._is_contained(hello.pid, peer)
            if hello.narrow:
                gate.narrowings.greeted(known, hello.narrow, is_new=False)
            return known
        app = self._app_of(channel, hello.identity, asks)
        namespace = network_namespace(peer.pid)
        guarded = namespace == self._namespace and self._is_contained(hello.pid, peer)
        process = Process(app, hello.token, hello.pid if guarded else peer.pid, peer.uid, peer.gid)
        process.parents = tuple(hello.parents)
        process.program = hello.program
        process.labels = labels.known(hello.labels)
        process.guarded = guarded
        process.fenced = guarded or (namespace is not None and namespace != self._namespace)
        gate.registry.join(process)
        gate.narrowings.greeted(process, hello.narrow, is_new=True, speaker=peer.pid)
        return process

    def _is_contained(self, pid: int, peer: Peer) -> bool:
        """Tell whether a process that somebody else speaks for is in a network of its own: that one is its guard.

        Whoever speaks from the gate's own network has that network, so nobody gains a way out by saying so, and what a
        narrowed speaker has left itself holds for the other as well.

        :param pid: whose the peer says it is; 0 and its own are nobody else's.
        """
        if pid in (0, peer.pid) or network_namespace(pid) in (None, self._namespace):
            return False
        try:
            return os.stat(f"/proc/{pid}").st_uid == peer.uid
        except OSError:
            return False

    def _app_of(self, channel: Channel, identity: str, asks: bool) -> App:
        """Return who a program is: by the socket it came by, else its token, else its user, else its primary group.

        A socket of an app's own is what an administrator has put before the program, who may know of nothing. A token
        is what the program says of itself on purpose, and if it is wrong, whoever shows it is nobody: taken for
        another app instead it would be billed as one.
        """
        gate, peer = self._gate, channel.peer
        if channel.app_name:
            settings = gate.settings.apps.get(channel.app_name)
        elif identity:
            settings = gate.settings.of_token(identity)
            if settings is None and not (asks and self.is_operator(peer.uid)):
                raise self._wrong_token(channel)
        else:
            settings = gate.settings.find(peer.uid, peer.gid)
        if settings is not None:
            return gate.registry.apps[settings.name]
        if asks and self.is_operator(peer.uid):
            return self.operator
        raise build("no-app", {"uid": peer.uid})

    def _wrong_token(self, channel: Channel) -> Refusal:
        """Note that somebody has shown a token that is no app's, or another's; it is the same refusal for all."""
        peer = channel.peer
        self._gate.log.event("wrong-token", pid=peer.pid, uid=peer.uid)
        return build("no-app-token", {})

    def left(self, channel: Channel) -> None:
        """Note that a channel has ended; with its last one a process has, unless it still holds sockets."""
        gate = self._gate
        uid = self.channels.pop(channel)
        self._by_uid[uid] -= 1
        if not self._by_uid[uid]:
            del self._by_uid[uid]
        self._ungreeted.discard(channel)
        process = channel.process
        if process is None:
            return
        process.channels -= 1
        if process.channels:
            return
        gate.sharing.left(process)
        if process.leases:
            gate.ending.look(list(process.leases.values()))
        else:
            gate.registry.forget(process)
        self.released()

    def released(self) -> None:
        """Say that a channel or a socket has gone."""
        gate = self._gate
        if gate.is_draining and not gate.registry.opened():
            gate.loop.call_later(_LAST_REPLY, gate.loop.stop)
        if self.on_release is not None:
            self.on_release()

    def _keep_house(self) -> None:
        now = self._gate.loop.time()
        for channel in [c for c in self._ungreeted if now >= c.greeted_by]:
            channel.end(f"no hello within {messages.HELLO_LIMIT:g} s")
        self._housekeeping = self._gate.loop.call_later(1.0, self._keep_house)

    # --- when another gate takes this one's place ---------------------------------------------------------------------

    def pause(self, asker: Channel) -> list[Channel]:
        """Read no request any more, and accept no channel; return what :meth:`resume` undoes.

        :param asker: the channel on which this was asked for.
        """
        self._housekeeping.cancel()
        for listener in self.listeners:
            self._gate.loop.remove_reader(listener.fileno())
        paused = [channel for channel in self.channels if channel is not asker]
        for channel in paused:
            channel.pause()
        return paused

    def resume(self, paused: list[Channel]) -> None:
        """Go on after all."""
        for channel in paused:
            channel.resume()
        for listener, app in list(self.listeners.items()):
            self.listen(listener, app)
        self._keep_house()

    def all_listeners(self) -> list[tuple[socket.socket, str, str]]:
        """Return the listening sockets, whose own each is, and its path where the gate made it for an app."""
        return [(sock, app, self._paths.get(sock, "")) for sock, app in self.listeners.items()]

    def listen_again(self, listener: socket.socket, app: str, path: str) -> None:
        """Take over an app's own listening socket."""
        self._paths[listener] = path
        self.listen(listener, app)

    def readmit(
        self, sock: socket.socket, peer: Peer, strays: bool, app: str, process: Process | None, is_anchor: bool
    ) -> None:
        """Take over a channel that another gate has accepted."""
        channel = Channel(self._gate, sock, peer, strays, app)
        self.channels[channel] = peer.uid
        self._by_uid[peer.uid] = self._by_uid.get(peer.uid, 0) + 1
        if process is None:
            self._ungreeted.add(channel)
        else:
            channel.process, channel.is_anchor = process, is_anchor
            process.channels += 1

    def stop_accepting(self) -> None:
        """Take no more channels."""
        self._housekeeping.cancel()
        for listener in list(self.listeners):
            self._stop_listening(listener)

    def end_channels(self) -> None:
        """End every channel: it is how programs learn that the gate has ended."""
        for channel in list(self.channels):
            channel.close("gate-ended")

    def stop(self) -> None:
        """Stop what closes, when everything has been given to it."""
        self.operator.resolver.stop()
        for closer in self._stray_closers.values():
            closer.stop(0.5)
