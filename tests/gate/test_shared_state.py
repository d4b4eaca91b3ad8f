"""The line to what a fleet shares: answers on the loop, and a word when it goes away and when it is back."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from redis.exceptions import ConnectionError as Broken
from redis.exceptions import ResponseError

from outgate.errors import ConfigError
from outgate.gate.configuration import config
from outgate.gate.configuration.settings import Settings, StateSettings
from outgate.gate.shared import shared
from outgate.gate.shared.shared import Shared, client

SETTINGS = StateSettings("redis://127.0.0.1:1/0")


class Fake:
    """A Redis that answers, breaks or hangs as it is told."""

    def __init__(self) -> None:
        self.errors: list[Exception] = []
        self.hangs: threading.Event | None = None
        self.pinged = threading.Semaphore(0)
        self.is_closed = False

    def ping(self) -> bool:
        """Answer."""
        if self.hangs is not None:
            assert self.hangs.wait(30)
        if self.errors:
            raise self.errors.pop(0)
        self.pinged.release()
        return True

    def close(self) -> None:
        """End."""
        self.is_closed = True


class Bench:
    """A loop with a line to a fake, and what the line has told."""

    def __init__(self) -> None:
        self.fake = Fake()
        self.loop = asyncio.new_event_loop()
        self.told: list[tuple[str, dict[str, Any]]] = []
        self.seen: list[bool] = []
        self.line = Shared(SETTINGS, self.loop, self._tell, lambda settings: self.fake)  # type: ignore[arg-type, return-value]
        self.line.watchers.append(self.seen.append)

    def _tell(self, event: str, **fields: Any) -> None:
        self.told.append((event, fields))

    def wait(self, condition: Callable[[], bool]) -> None:
        """Run the loop until that is so."""

        async def look() -> None:
            async with asyncio.timeout(30):
                while not condition():
                    await asyncio.sleep(0.001)

        self.loop.run_until_complete(look())

    def ask(self, job: Callable[[Any], Any]) -> Any:
        """Return what comes of a job."""
        answers: list[Any] = []
        self.line.ask(job, answers.append)
        self.wait(lambda: bool(answers))
        assert len(answers) == 1
        return answers[0]


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    """A line that looks often."""
    monkeypatch.setattr(shared, "RETRY", 0.02)
    monkeypatch.setattr(shared, "LIMIT", 0.3)
    made = Bench()
    yield made
    if made.fake.hangs is not None:
        made.fake.hangs.set()
    made.line.stop()
    made.loop.close()


def test_an_answer_comes_on_the_loop(bench: Bench) -> None:
    """A job is done on the thread and its answer heard on the loop; all is well and nothing is told."""
    where: list[int] = []
    assert bench.ask(lambda redis: where.append(threading.get_ident()) or [redis.ping(), 7]) == [True, 7]
    assert where != [threading.get_ident()]
    assert bench.told == []
    assert bench.line.statistics() == {"url": SETTINGS.url, "answers": True, "away": None, "why": ""}


def test_a_connection_that_was_closed_meanwhile_is_made_anew(bench: Bench) -> None:
    """What breaks once is tried again at once: the server has closed what was idle, and is not away."""
    bench.ask(lambda redis: redis.ping())
    bench.fake.errors = [Broken("closed by server")]
    assert bench.ask(lambda redis: redis.ping()) is True
    assert bench.told == []


def test_it_is_told_once_that_it_is_away_and_once_that_it_is_back(bench: Bench) -> None:
    """However often it fails, the log has one line, and one when it answers again; who asks meanwhile hears at once."""
    bench.ask(lambda redis: redis.ping())
    hold = bench.fake.hangs = threading.Event()
    bench.fake.errors = [Broken("refused")] * 7
    hold.set()
    assert bench.ask(lambda redis: redis.ping()) is None
    assert [event for event, _ in bench.told] == ["fleet-state-failed"]
    assert bench.told[0][1] == {"reason": "refused", "state": SETTINGS.url}
    bench.wait(lambda: not bench.line.is_away)
    assert [event for event, _ in bench.told] == ["fleet-state-failed", "fleet-state-back"]
    assert bench.seen == [True, False]
    assert bench.ask(lambda redis: redis.ping()) is True


@pytest.mark.parametrize("error", [ResponseError("LOADING it reads its file"), OSError(113, "No route to host")])
def test_whatever_it_says_is_a_reason(bench: Bench, error: Exception) -> None:
    """A server that answers with an error is as good as away, and the reason is its own."""
    bench.ask(lambda redis: redis.ping())
    bench.fake.errors = [error]
    assert bench.ask(lambda redis: redis.ping()) is None
    assert str(error) in bench.told[0][1]["reason"]
    assert str(error) == (bench.line.statistics() or {})["why"] or not bench.line.is_away


def test_a_server_that_hangs_holds_nobody(bench: Bench) -> None:
    """Who asks hears within the limit, and what is asked after that in the next turn of the loop."""
    bench.ask(lambda redis: redis.ping())
    hold = bench.fake.hangs = threading.Event()
    late: list[Any] = []
    bench.line.ask(lambda redis: redis.ping(), late.append)
    bench.line.ask(lambda redis: 5, late.append)
    bench.wait(lambda: len(late) == 2)
    assert late == [None, None]
    assert bench.line.is_away
    assert "no answer within" in bench.told[0][1]["reason"]
    done: list[Any] = []
    bench.line.ask(lambda redis: 6, done.append)
    assert done == [], "never before ask() has returned"
    bench.loop.run_until_complete(asyncio.sleep(0))
    assert done == [None]
    hold.set()
    bench.wait(lambda: not bench.line.is_away)
    assert late == [None, None], "what comes too late is heard by nobody"


def test_a_job_of_ours_that_fails_is_a_fault(bench: Bench) -> None:
    """An error that is no server's is told as a fault, and who asks is answered."""
    bench.ask(lambda redis: redis.ping())
    assert bench.ask(lambda redis: redis.nothing_of_the_kind) is None
    assert "nothing_of_the_kind" in dict(bench.told)["fault"]["reason"]


def test_it_looks_while_nobody_asks(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that goes away while nobody asks is found out all the same."""
    monkeypatch.setattr(shared, "IDLE", 0.02)
    bench.ask(lambda redis: redis.ping())
    bench.fake.errors = [Broken("gone")] * 2
    bench.wait(lambda: bool(bench.told))
    assert bench.told[0][1]["reason"] == "gone"


def test_the_last_job_is_done_before_the_end(bench: Bench) -> None:
    """A gate that ends has its last word said, and closes."""
    said: list[int] = []
    bench.ask(lambda redis: redis.ping())
    bench.line.stop(lambda redis: said.append(1))
    assert said == [1]
    assert bench.fake.is_closed


# --- the configuration ------------------------------------------------------------------------------------------------


def load(tmp_path: Path, words: str, **options: Any) -> Settings:
    """Return the settings of a gate of a fleet."""
    path = tmp_path / "outgate.toml"
    path.write_text(f'version = 1\n[fleet]\nname = "a"\n{words}\n[apps.blog]\nuid = [1]\nbilling = true\n')
    path.chmod(0o600)
    return config.load(str(path), **options)


def test_a_fleet_may_share_its_state_alone(tmp_path: Path) -> None:
    """Gates that pass no sockets on need no place to listen, and so no certificates."""
    fleet = load(tmp_path, 'state = "redis://state.corp:6379/2"').fleet
    assert fleet is not None
    assert fleet.listen == ""
    assert fleet.shared == StateSettings("redis://state.corp:6379/2")
    assert fleet.reservation == 0.01
    with pytest.raises(ConfigError, match=r"fleet\.listen: missing"):
        load(tmp_path, 'state = "redis://state.corp"\ngates = { b = "192.0.2.2:7400" }')


@pytest.mark.parametrize(
    ("words", "what"),
    [
        ('state = "http://state.corp"', r"fleet\.state: this is no place for what gates share; as in \"redis://"),
        ('state = "redis://"', "no place"),
        ('state = "redis://state.corp:99999"', "no URL"),
        ('state = "redis://state.corp/blue"', '"blue" is not the number of a database'),
        ('state = "redis://state.corp?password=x"', "password is not known; behind a \\? may stand db, "),
        ('state = "unix://"', "no place"),
        ('state = "redis://s"\nreservation = 1.5', r"fleet\.reservation: 1\.5 is no share of a quota"),
        ('state = "redis://s"\nreservation = -1', "no share"),
        ('listen = "127.0.0.1:1"\nstate_credentials = "x"', r"fleet\.state_credentials: there is no state"),
        ('state = "redis://u:p@s"\nstate_credentials = "x"', "the URL has a password as well"),
        ('state = "redis://s"\nstate_credentials = "missing"', "cannot be read"),
    ],
)
def test_what_is_no_state_is_refused(tmp_path: Path, words: str, what: str) -> None:
    """Each mistake is named with its key, and with what would be right."""
    with pytest.raises(ConfigError, match=what):
        load(tmp_path, words)


def test_the_password_is_in_a_file_and_never_shown(tmp_path: Path) -> None:
    """User and password come from a file that others cannot read; of a URL with one, nothing shows it."""
    secret = tmp_path / "state.secret"
    secret.write_text("default:open sesame\n")
    secret.chmod(0o600)
    settings = load(tmp_path, 'state = "redis://state.corp"\nstate_credentials = "state.secret"')
    assert settings.fleet is not None
    found = settings.fleet.shared
    assert found is not None
    assert found.credentials == ("default", "open sesame")
    assert "sesame" not in repr(settings)
    pool = client(found).connection_pool
    assert (pool.connection_kwargs["username"], pool.connection_kwargs["password"]) == found.credentials
    unread = load(tmp_path, 'state = "redis://state.corp"\nstate_credentials = "state.secret"', reads_tokens=False)
    assert unread.fleet is not None
    assert unread.fleet.shared == StateSettings("redis://state.corp", str(secret))
    secret.chmod(0o644)
    with pytest.raises(ConfigError, match=r"fleet\.state_credentials: .* may be read by everybody"):
        load(tmp_path, 'state = "redis://state.corp"\nstate_credentials = "state.secret"')
    shown = load(tmp_path, 'state = "redis://me:secret@state.corp/1"')
    lines = {each.key: each.value for each in shown.explain()}
    assert lines["fleet.state"] == '"redis://me:***@state.corp/1"'
    assert all("secret" not in value for value in lines.values())


def test_another_state_takes_a_start(tmp_path: Path) -> None:
    """A reload goes on with the state there was and says so; the reservation it changes."""
    before = load(tmp_path, 'state = "redis://one"')
    load(tmp_path, 'state = "redis://other"\nreservation = 0.5')
    after = config.reload(before)
    assert after.fleet is not None
    assert after.fleet.shared == StateSettings("redis://one")
    assert after.fleet.reservation == 0.5
    assert [str(each) for each in after.warnings if "fleet.state" in str(each)]


def test_who_has_no_library_is_told_which(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A gate that is to share its state and has no redis-py does not start, and names the extra."""
    import sys

    from outgate.gate import main

    monkeypatch.setitem(sys.modules, "redis", None)
    for name in ("sharing", "shared"):
        monkeypatch.delitem(sys.modules, f"outgate.gate.shared.{name}", raising=False)
    settings = load(tmp_path, 'state = "redis://state.corp"', uid=os.getuid())
    with pytest.raises(ConfigError, match=r"fleet\.state: redis is not installed here; pip install 'outgate\[redis\]'"):
        main._shares(settings)
