"""State diagrams are drawn without a script, and what is no state diagram is refused."""

import importlib.util
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

_PATH = Path(__file__).parents[2] / "docs" / "drawings.py"
_SPEC = importlib.util.spec_from_file_location("outgate_docs_drawings", _PATH)
drawings = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(drawings)

TEXT = "stateDiagram-v2\n    [*] --> a\n    a --> b: go, run\n    b --> a: back\n    b --> b: stay\n    a --> c\n"


def test_every_arrow_is_drawn():
    """The drawing is XML, with a box for each state, a line for each arrow, and their words."""
    root = ElementTree.fromstring(drawings.draw(drawings.read(TEXT)))
    found = [element.tag.rpartition("}")[2] for element in root.iter()]
    assert found.count("rect") == 3
    assert found.count("path") == 4 + 1  # and the tip
    words = {element.text for element in root.iter() if element.tag.endswith("text")}
    assert {"a", "b", "c", "go, run", "back", "stay"} <= words


def test_what_is_written_is_text():
    """A word in a diagram is no markup."""
    assert "&lt;b&gt;" in drawings.draw(drawings.read("stateDiagram-v2\n    a --> b: <b>\n"))


@pytest.mark.parametrize(
    "spans", [[(0, 9), (1, 2), (3, 4)], [(0, 5), (5, 9)], [(2, 3), (2, 3), (0, 1), (0, 9)], [(4, 4), (4, 4)]]
)
def test_lines_in_one_lane_do_not_meet(spans):
    """Two spans in one lane have nothing in common."""
    lanes = drawings.lanes(spans)
    for first, (low, high) in enumerate(spans):
        for second, (bottom, top) in enumerate(spans[:first]):
            assert lanes[first] != lanes[second] or high < bottom or top < low


@pytest.mark.parametrize("text", ["graph TD\n a --> b", "stateDiagram-v2\n    a -> b", "stateDiagram-v2\n    note"])
def test_other_diagrams_are_refused(text):
    """What is no state diagram fails the build instead of being left out."""
    with pytest.raises(ValueError, match=re.compile("not a")):
        drawings.read(text)
