"""The keys of the configuration: default, meaning, and whether a reload reaches them.

:data:`KEYS` is the one table. ``etc/outgate.sample.toml`` and ``docs/configuration.md`` are made from it, and
``outgate check`` prints from it.
"""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from outgate.core.profiles import PROFILES
from outgate.core.quota.pool import LEAST, RESERVATION

__all__ = ["CHOICES", "KEYS", "VERSION", "Key"]

#: The newest ``version`` this tree reads.
VERSION: Final = 1


class Key(NamedTuple):
    """One key: its default, whether a reload reaches it, what it means, and whether it must be there.

    ``shown`` says that the value is an example: the key has no default, or one that depends on the host.
    """

    default: Any
    reloadable: bool
    help: str
    required: bool = False
    shown: bool = False


#: Dotted key → :class:`Key`. ``NAME`` stands for a name of the administrator's.
KEYS: Final[Mapping[str, Key]] = {
    "version": Key(
        VERSION, True, "Version of this file's form. A gate refuses a file that is newer than itself.", required=True
    ),
    "gate.socket": Key(
        "/run/outgate/gate.sock",
        False,
        "Unix socket where programs reach the gate. The default of a gate that is not root's is below XDG_RUNTIME_DIR. "
        "A path that is not absolute starts at the folder of this file.",
        shown=True,
    ),
    "gate.socket_mode": Key(
        "0666",
        False,
        "Permissions of that socket, in octal. Whoever may connect must still match an app. "
        'The default of a gate that is not root\'s is "0600".',
        shown=True,
    ),
    "gate.log": Key(
        "/var/log/outgate/decisions.jsonl",
        False,
        'File of the decision log, "-" for standard output, or "journald" for the system\'s journal. The default of a '
        "gate that is not root's is below XDG_STATE_HOME.",
        shown=True,
    ),
    "gate.log_allowed": Key(
        True,
        True,
        "Log decisions that allow, too. Those that deny are always logged, and so is the end of every connection.",
    ),
    "gate.log_rotate": Key(
        "",
        True,
        'Size at which the gate itself begins a new file of the log, as in "100 MB"; the earlier ones are FILE.1 (the '
        "latest), FILE.2 and so on. Never by default: logrotate may do it (docs/log.md).",
    ),
    "gate.log_keep": Key(5, True, "How many of these earlier files are kept."),
    "gate.log_rate": Key(
        1000,
        True,
        "The most lines a second that the log takes of one app, after the first ten times as many. What is above is "
        "folded into a line that says how many there were; counts, quotas and the ledger have all. 0 is no limit.",
    ),
    "gate.on_reload": Key(
        "cut",
        True,
        'What is done with connections that are open and that a new policy denies: "cut" resets them, "report" only '
        "writes them into the log.",
    ),
    "gate.metrics": Key(
        "",
        False,
        'Where Prometheus fetches metrics: a loopback address and port, as in "127.0.0.1:9464", or the path of a Unix '
        "socket. There are none by default.",
    ),
    "gate.metrics_exposed": Key(
        False,
        False,
        "Whether gate.metrics may be an address that other hosts reach. Metrics name every app, and have no password.",
    ),
    "gate.socks": Key(
        [],
        False,
        "Doors for programs in any language: addresses where they may ask for connections by SOCKS5, as in "
        '["127.0.0.1:1080"], with the name of an app and the token in its token_file as username and password '
        "(docs/doors.md). There are none by default.",
    ),
    "gate.http_connect": Key(
        [],
        False,
        'The same by HTTP CONNECT, as in ["127.0.0.1:3128"], with name and token as Basic credentials.',
    ),
    "gate.doors_exposed": Key(
        False,
        False,
        "Whether these may be addresses that other hosts reach. Tokens, and what is not TLS, cross the network as they "
        "are.",
    ),
    "gate.state": Key(
        "/var/lib/outgate",
        False,
        "Folder for what outlives the gate: what is open, how much of each quota is used. The default of a gate that "
        "is not root's is below XDG_STATE_HOME.",
        shown=True,
    ),
    "gate.zone": Key(
        "UTC",
        True,
        'Time zone whose days the quotas go by, as in "Europe/Berlin". The default of an app with the profile '
        '"app-engine" is "America/Los_Angeles".',
    ),
    "gate.warn_command": Key(
        [],
        True,
        "Command and arguments that are run when a quota warns or is used up, with a JSON object on standard input: "
        'event, app, quota, used, limit, … as in the log. As in ["/usr/local/bin/tell-me"]. It has ten seconds, and no '
        "more than four run at a time.",
    ),
    "gate.seal": Key(
        "auto",
        False,
        "Whether sockets that the gate makes are sealed: nobody but the gate can connect, bind or turn them, whoever "
        'holds them. "auto" seals them where the gate has the rights at its start, "require" does not start without, '
        '"off" does not try (docs/containment.md).',
    ),
    "ledger.url": Key(
        "sqlite:////var/lib/outgate/ledger.sqlite",
        False,
        "Where the ledger is kept: the path or URL of an SQLite file, or a PostgreSQL database. Without a table "
        "[ledger] none is kept. The default is in gate.state. A password is better in PGPASSFILE than here.",
        shown=True,
    ),
    "ledger.gate": Key(
        "web-1",
        False,
        "What this gate is called in it, where several write to one. The default is the host's name.",
        shown=True,
    ),
    "ledger.grace": Key(
        3600,
        False,
        "Seconds for which sockets are opened while the ledger cannot be written. What they move is kept in memory, "
        "and in a small file in gate.state, until it can.",
    ),
    "ledger.after_grace": Key("open", False, 'What happens after that: "open", or "closed", and nothing is opened.'),
    "ledger.prices": Key(
        {},
        True,
        'What bytes cost: currency = "EUR", per = "GB", and rules = [{ to = "*", sent = "0.12" }], the first that '
        "matches a destination; received costs nothing unless it is set (docs/billing.md).",
    ),
    "fleet.name": Key(
        "a",
        False,
        "What this gate is called among the gates of its fleet: a-z, 0-9 and hyphens within. Without a table [fleet] a "
        "gate is alone, and needs nothing of this (docs/fleet.md).",
        shown=True,
    ),
    "fleet.listen": Key(
        "192.0.2.1:7400",
        False,
        "Where other gates reach this one, who show a certificate of the fleet. The default is its own line in gates.",
        shown=True,
    ),
    "fleet.gates": Key(
        {"b": "192.0.2.2:7400"},
        True,
        "The gates of the fleet and where each is. Who is not listed gets no socket here, whatever certificate it "
        "shows. It may be the same list on every host.",
        shown=True,
    ),
    "fleet.proxy": Key(
        "",
        True,
        'An HTTP proxy by which other gates are reached (CONNECT), as in "192.0.2.9:3128". It sees TLS.',
    ),
    "fleet.state": Key(
        "redis://192.0.2.5:6379/0",
        False,
        "A Redis or Valkey that all gates of the fleet share, as redis://, rediss:// (TLS) or unix:///PATH: their "
        "quotas are then one. Without it each gate counts its own.",
        shown=True,
    ),
    "fleet.state_credentials": Key(
        "",
        False,
        "A file with who the gate is to that: one line, user:password. Nobody but its owner and its group may read it. "
        "Where only a password is asked for the user is default.",
    ),
    "fleet.reservation": Key(
        RESERVATION,
        True,
        "Share of each quota that this gate may grant beyond what it has been granted, where fleet.state does not "
        f"answer; at least {LEAST['calls']} calls or datagrams, {LEAST['bytes'] // 1024} KiB of bytes. With 0 it "
        "grants nothing then.",
    ),
    "groups.own": Key(
        [],
        True,
        "Your own address ranges, beside the host's own addresses. They are denied to every app, even where they are "
        "public.",
    ),
    "groups.NAME": Key(
        ["198.51.100.0/24"],
        True,
        "Address ranges under a name of yours, for use in the rules of every app.",
        shown=True,
    ),
    "apps.NAME.uid": Key(
        [], True, "Users whose programs are this app, as numbers or names. No two apps may share one."
    ),
    "apps.NAME.gid": Key(
        [],
        True,
        "Groups whose programs are this app, as numbers or names. It is the program's primary group that counts, and "
        "an app that lists the user comes first.",
    ),
    "apps.NAME.socket": Key(
        "",
        True,
        "A further Unix socket, of this app alone: every program that can reach it is this app, whoever runs it. For a "
        "container without network into which only that path is mounted. gate.socket_mode holds for it.",
    ),
    "apps.NAME.token_file": Key(
        "",
        True,
        "A file with a token: every program that shows the same one is this app, whoever runs it. It says so by "
        "outgate run --token-file, or OUTGATE_TOKEN_FILE in its environment. Nobody but its owner and its group may "
        "read the file; outgate token new FILE makes one.",
    ),
    "apps.NAME.billing": Key(
        True,
        True,
        "Whether the app has billing. Sockets are for paid apps: with false every one is refused.",
        required=True,
        shown=True,
    ),
    "apps.NAME.trusted": Key(
        False,
        True,
        "Whether its programs may hold the kernel's sockets without being contained by more than the client.",
    ),
    "apps.NAME.allow": Key(["public"], True, "Where its programs may connect."),
    "apps.NAME.deny": Key(
        [], True, "Where they may not, in addition to what is always denied: non-public, own and *:25."
    ),
    "apps.NAME.except": Key(
        [], True, 'What they may reach although it is denied, as in "10.2.0.0/16:5432". Exceptions come before denials.'
    ),
    "apps.NAME.names": Key(
        ["*"],
        True,
        'Which names its programs may look up, as in "example.com" or "*.corp", beside those that its rules permit by '
        'name. "*" is any name; a name that no rule could allow is not looked up in any case.',
    ),
    "apps.NAME.reasons": Key(
        "brief",
        True,
        'How much a refusal tells the program: "full", or "brief", which is the kind of rule and not what a name '
        'resolved to; the log has it all. The default of an app that is trusted is "full".',
    ),
    "apps.NAME.mode": Key(
        "enforce", True, 'With "report" nothing is refused by policy; the log says what would have been.'
    ),
    "apps.NAME.path": Key(
        "auto",
        True,
        'How bytes travel: "direct" is the kernel socket itself, "relay" has the gate carry them; "auto" is direct '
        "where the app is trusted, or the socket sealed against the program, and relay where neither is, or where a "
        "proxy is on the way.",
    ),
    "apps.NAME.via": Key(
        "",
        True,
        'The proxy that its connections leave by, as in "socks5h://proxy.corp:1080", "socks5://…", "http://…" or '
        '"https://…"; "" is none. The policy judges where they go as without one; all but socks5 then give the proxy '
        "the name where one is known, socks5 the address. UDP has no way by a proxy (docs/ways.md).",
    ),
    "apps.NAME.credentials": Key(
        "",
        True,
        "A file with who the gate is to that proxy: one line, user:password. Nobody but its owner and its group may "
        "read it.",
    ),
    "apps.NAME.ca": Key(
        "",
        True,
        'A file with certificates (PEM), of which one has signed that of an https:// proxy; "" is those that the host '
        "trusts. Nobody but its owner may change it.",
    ),
    "apps.NAME.source": Key(
        "",
        True,
        'The address of this host that its connections and datagrams leave from, as in "192.0.2.7"; "" is whichever '
        "the host takes. Nothing of the other IP version leaves.",
    ),
    "apps.NAME.ways": Key(
        [],
        True,
        'Other ways out for some destinations, the first that matches: [{ to = "*.corp", via = "" }], where to is a '
        "rule, and via, credentials, ca and source are as above and of that way alone.",
    ),
    "apps.NAME.open_sockets": Key(4000, True, "The most sockets its programs may have open at one time."),
    "apps.NAME.quotas": Key(
        {"connect": {"minute": 60000}},
        True,
        'What its programs may use in a calendar day or minute, as in bytes_sent = { day = "20 GB", minute = "113 MB" '
        '}; over = "delay", "cut" or "warn" and warn_at = 0.8 may stand beside (docs/quotas.md). "unlimited" lifts the '
        "default.",
    ),
    "apps.NAME.idle_timeout": Key(
        120,
        True,
        "Seconds without traffic after which a socket is idle. One that no process has, because it was passed on and "
        "nobody has taken it, is reclaimed then.",
    ),
    "apps.NAME.idle_reclaim": Key(
        "pressure",
        True,
        'When idle sockets are taken from programs that have them: with "pressure" only above 80 % of open_sockets, '
        'the longest idle first and never with unread bytes; with "always" all of them, as App Engine did.',
    ),
    "apps.NAME.listen": Key("none", True, "Whether its programs may listen. Sockets are outbound only."),
    "apps.NAME.guard": Key(
        False,
        True,
        "Whether outgate run guards its programs, in whatever language, without being asked to, or does not start them "
        "(docs/guard.md).",
    ),
    "apps.NAME.unix": Key(
        [],
        True,
        "Paths of Unix sockets that a guarded program may connect to, beside the gate's. What is behind them acts for "
        "it, in the host's network.",
    ),
    "apps.NAME.profile": Key(
        "default",
        True,
        'Which set of rules its defaults come from: "app-engine" is App Engine to the letter (docs/profile.md). A '
        "program that runs keeps the socket options and look-ups of the one that it began with.",
    ),
}

#: Values of the keys that take one of a few words; a text says why a word that will mean something does not yet.
CHOICES: Final[Mapping[str, Mapping[str, str]]] = {
    "reasons": {"full": "", "brief": ""},
    "mode": {"enforce": "", "report": ""},
    "path": {"auto": "", "direct": "", "relay": ""},
    "after_grace": {"open": "", "closed": ""},
    "idle_reclaim": {"pressure": "", "always": ""},
    "listen": {"none": "", "loopback": "listening on loopback comes with a later version"},
    "on_reload": {"cut": "", "report": ""},
    "profile": dict.fromkeys(PROFILES, ""),
    "seal": {"auto": "", "require": "", "off": ""},
}
