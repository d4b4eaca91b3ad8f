"""The environment in which a program finds the gate and loads the client."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outgate.guard.launch import environment

SOCKET = "/run/outgate/gate.sock"
INJECT = "/opt/outgate/inject"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (None, INJECT),
        ("", INJECT),
        ("/a", f"{INJECT}:/a"),
        ("/a:/b", f"{INJECT}:/a:/b"),
        (INJECT, INJECT),
        (f"/a:{INJECT}:/b", f"{INJECT}:/a:/b"),
        ("/a::/b", f"{INJECT}:/a::/b"),
        (":/a", f"{INJECT}::/a"),
    ],
)
def test_folder_comes_first_and_the_rest_stays(before: "str | None", after: str) -> None:
    """The client's folder leads PYTHONPATH once, and every other part keeps its place, empty ones too."""
    environ = {} if before is None else {"PYTHONPATH": before}
    assert environment(environ, SOCKET, INJECT)["PYTHONPATH"] == after


@given(st.dictionaries(st.sampled_from(["PYTHONPATH", "HOME", "OUTGATE_SOCKET"]), st.text(":/ab", max_size=12)))
def test_twice_is_once(environ: "dict[str, str]") -> None:
    """Making the environment again from its own result changes nothing."""
    once = environment(environ, SOCKET, INJECT)
    assert environment(once, SOCKET, INJECT) == once


def test_nothing_else_changes_and_the_argument_stays() -> None:
    """Only the gate's socket and PYTHONPATH differ, and the mapping passed in is untouched."""
    environ = {"HOME": "/home/a", "OUTGATE_SOCKET": "/old"}
    result = environment(environ, SOCKET, INJECT)
    assert result == {"HOME": "/home/a", "OUTGATE_SOCKET": SOCKET, "PYTHONPATH": INJECT}
    assert environ == {"HOME": "/home/a", "OUTGATE_SOCKET": "/old"}


@pytest.mark.parametrize("folder", ["inject", "", "/opt/a:b"])
def test_folder_that_pythonpath_cannot_name_is_refused(folder: str) -> None:
    """A relative folder, or one with the separator in its name, is an error at once and not a lost client later."""
    with pytest.raises(ValueError, match="PYTHONPATH"):
        environment({}, SOCKET, folder)
