"""What a decision log says is gathered as it is meant, and what is no line of one is counted and left out."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outgate.core.learn import observations
from outgate.core.learn.observations import Evidence, Observations, Target, TooMany


def line(**changes: Any) -> dict[str, Any]:
    """Return a line that allows a connect to a public name, with these changes; ``None`` drops a field."""
    fields = {
        "v": 1, "time": "2026-11-20T10:00:00.000Z", "event": "decision", "lease": "", "app": "blog", "pid": 7,
        "uid": 1000, "program": "agent.py", "host": "api.example", "port": 443, "name": "api.example",
        "transport": "tcp", "address": "93.184.215.14", "class": "public", "verdict": "allow", "rule": "public",
        "policy": 1, "path": "direct",
    }  # fmt: skip
    fields |= {key.rstrip("_"): value for key, value in changes.items()}
    return {key: value for key, value in fields.items() if value is not None}


def alone(address: str) -> dict[str, Any]:
    """Return the changes that make a line one of an address without a name."""
    return {"name": None, "host": address, "address": address}


def asked(name: str, address: str) -> dict[str, Any]:
    """Return the changes that make a line one of a name with this address."""
    return {"name": name, "host": name, "address": address}


def gather(*lines: object, **options: str) -> Observations:
    """Return what these lines come to."""
    seen = Observations(**options)
    for each in lines:
        seen.add(each)
    return seen


def only(seen: Observations) -> tuple[Target, Evidence]:
    """Return the one destination that was gathered of app ``blog``."""
    ((target, evidence),) = seen.apps["blog"].targets.items()
    return target, evidence


class TestTargets:
    """As what a destination is noted."""

    @pytest.mark.parametrize(
        ("changes", "target"),
        [
            ({}, Target("allow", "api.example", True, "tcp", 443)),
            ({"name": "API.Example."}, Target("allow", "api.example", True, "tcp", 443)),
            ({"name": None, "host": "API.example."}, Target("allow", "api.example", True, "tcp", 443)),
            (alone("93.184.215.14"), Target("allow", "93.184.215.14", False, "tcp", 443)),
            (asked("db.corp", "10.0.0.5"), Target("except", "db.corp", True, "tcp", 443)),
            ({"port": 25}, Target("except", "api.example", True, "tcp", 25)),
            (alone("::1"), Target("except", "::1", False, "tcp", 443)),
            (asked("localhost", "127.0.0.1"), Target("except", "127.0.0.1", False, "tcp", 443)),
            (asked("x.example", "169.254.169.254"), Target("except", "169.254.169.254", False, "tcp", 443)),
            (asked("x.example", "::ffff:10.0.0.5"), Target("except", "x.example", True, "tcp", 443)),
            (alone("::ffff:10.0.0.5"), Target("except", "10.0.0.5", False, "tcp", 443)),
            ({"class": "own"}, Target("except", "api.example", True, "tcp", 443)),
            ({"class": "private"}, Target("allow", "api.example", True, "tcp", 443)),
            (asked("public", "93.184.215.14"), Target("allow", "public", True, "tcp", 443)),
            ({"name": "a b", "host": "\n"}, Target("allow", "93.184.215.14", False, "tcp", 443)),
            ({"name": "1.2.3.4.5"}, Target("allow", "93.184.215.14", False, "tcp", 443)),
        ],
    )  # fmt: skip
    def test_destination(self, changes: dict[str, Any], target: Target) -> None:
        """A name is preferred where a rule by name can permit it; the class is judged anew, but for ``own``."""
        assert only(gather(line(**changes)))[0] == target

    def test_the_name_that_was_asked_for(self) -> None:
        """A destination that is noted by address knows the name that was asked for."""
        _, evidence = only(gather(line(name="localhost", host="localhost", address="127.0.0.1")))
        assert list(evidence.asked) == ["localhost"]

    def test_refused_look_up(self) -> None:
        """A refusal with port 0 is that of a look-up, and no destination."""
        app = gather(line(port=0, verdict="deny", address=None)).apps["blog"]
        assert (list(app.targets), list(app.lookups)) == ([], ["api.example"])

    def test_refused_before_the_look_up(self) -> None:
        """A connect by a name that was never looked up has a destination without an address."""
        target, evidence = only(gather(line(verdict="deny", address=None, class_=None)))
        assert target == Target("allow", "api.example", True, "tcp", 443)
        assert not evidence.addresses.kept


class TestCounting:
    """How often, when, and by whom."""

    def test_a_connection_counts_once(self) -> None:
        """A decision and the end of its lease are one connection; the end says whether it was established."""
        end = line(event="end", lease="L1", connected=True, time="2026-11-20T10:00:09.000Z")
        _, evidence = only(gather(line(lease="L1"), end))
        assert (evidence.count, evidence.ended, evidence.connected) == (1, 1, 1)
        assert evidence.last == "2026-11-20T10:00:00.000"

    def test_an_end_stands_for_a_decision_that_was_not_logged(self) -> None:
        """With ``log_allowed = false`` the end is all there is of a connection, and counts as one."""
        _, evidence = only(gather(line(event="end", lease="L1", connected=False)))
        assert (evidence.count, evidence.ended, evidence.connected) == (1, 1, 0)

    def test_the_last_verdict_counts(self) -> None:
        """Whatever the order of the lines, the verdict is that of the latest time."""
        early = line(time="2026-11-20T10:00:00.000Z", verdict="deny", rule="no rule allows it")
        late = line(time="2026-11-20T10:00:00.001Z", verdict="report", rule="non-public")
        for lines in ((early, late), (late, early)):
            _, evidence = only(gather(*lines))
            assert (evidence.verdict, evidence.rule, evidence.last) == ("report", "non-public", late["time"][:-1])

    def test_programs_and_users(self) -> None:
        """Programs are kept in order and no more than a few of them; users are numbers that can be."""
        lines = [line(program=f"p{number}") for number in range(20)]
        seen = gather(*lines, line(uid=True), line(uid=-1), line(uid=2**32), line(uid="root"), line(uid=0))
        _, evidence = only(seen)
        assert list(evidence.programs.kept) == [f"p{number}" for number in range(len(evidence.programs.kept))]
        assert evidence.programs.more
        assert seen.apps["blog"].uids == {0, 1000}

    def test_since(self) -> None:
        """What is older is left out, and so is what has no time; the same second is in."""
        lines = [line(time=time) for time in ("2026-11-20T09:59:59.999Z", "2026-11-20T10:00:00Z", "yesterday")]
        lines.append(line(time="2026-11-20T10:00:00.001Z"))
        assert gather(*lines, since="2026-11-20T10:00:00").count == 2
        assert gather(*lines).count == 4

    def test_one_app(self) -> None:
        """Of another app than the one that is asked for only the name is noted."""
        seen = gather(line(), line(app="shop"), app="shop")
        assert (list(seen.apps), seen.others) == (["shop"], {"blog"})


class TestBadInput:
    """What a log may hold that is none of ours."""

    @pytest.mark.parametrize(
        "bad",
        [
            None, 7, "text", [], {}, {"event": 1}, {"event": "decision"}, line(app=None), line(app="No App"),
            line(app="x" * 64), line(app="a\n"), line(transport="sctp"), line(port=-1), line(port=65536),
            line(port="443"), line(port=True), line(verdict="maybe"), line(verdict=None),
            line(name=None, host=None, address=None), line(name=None, host="…", address="10.0.0.256"),
        ],
    )  # fmt: skip
    def test_is_counted(self, bad: object) -> None:
        """A line that is not understood is counted and changes nothing else."""
        seen = gather(bad)
        assert (seen.misread, seen.count, seen.apps) == (1, 0, {})

    def test_what_is_newer_is_tolerated(self) -> None:
        """A newer version, fields and events that are not known, are no fault."""
        seen = gather(line(v=9, colour="green"), {"event": "moonrise"}, {"event": "start"})
        assert (seen.misread, seen.count, seen.started) == (0, 1, True)

    def test_lost_lines(self) -> None:
        """What the gate says it lost is added up."""
        assert gather({"event": "log-dropped", "count": 7}, {"event": "log-dropped", "count": "x"}).lost == 8

    def test_too_many(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """What a scanner leaves behind ends in a sentence, and in no full memory."""
        monkeypatch.setattr(observations, "MAX_DESTINATIONS", 10)
        seen = gather(*(line(port=port) for port in range(1, 11)))
        seen.add(line(port=1))
        with pytest.raises(TooMany, match="--since"):
            seen.add(line(port=11))

    @given(
        st.dictionaries(
            st.sampled_from(sorted(line())),
            st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.lists(st.text())),
        )
    )
    def test_any_value_in_any_field(self, changes: dict[str, Any]) -> None:
        """Whatever stands in a field, a line is taken, counted as not understood, or none of ours."""
        seen = gather({**line(), **changes})
        assert seen.misread + seen.count + (changes.get("event") not in (None, "decision", "end")) >= 1


def test_what_doctor_dialled_is_nobodys_need():
    """The lines of ``outgate doctor``'s own program are left out, and nothing else is."""
    seen = gather(line(program="outgate-doctor", **alone("127.0.0.1")), line())
    assert seen.count == 1
    assert only(seen)[0].host == "api.example"
