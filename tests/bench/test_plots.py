"""Pictures of figures."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from bench import plots

_SVG = "{http://www.w3.org/2000/svg}"


def _texts(svg: str) -> list[str]:
    return [each.text for each in ElementTree.fromstring(svg).iter(f"{_SVG}text")]


def _paths(svg: str, kind: str) -> list[str]:
    return [each.get("d") for each in ElementTree.fromstring(svg).iter(f"{_SVG}path") if each.get("class") == kind]


def _points(path: str) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in re.findall(r"([\d.]+) ([\d.]+)", path)]


def test_bars_are_as_long_as_their_figures():
    """A bar of half the figure has half the length, and each has its name and its figure in words."""
    svg = plots.bars("Throughput", "GB/s", {"send": {"native": (4.0, 4.0, 4.0), "a <peer>": (2.0, 1.0, 3.0)}})
    widths = [float(each.get("width")) for each in ElementTree.fromstring(svg).iter(f"{_SVG}rect")]
    assert widths[0] == pytest.approx(2 * widths[1])
    assert {"send", "native", "a <peer>", "4 GB/s", "2 GB/s"} <= set(_texts(svg))


def test_curves_rise_from_left_to_right():
    """A curve goes to the right and up, for a larger share of the measurements took no longer than more time."""
    svg = plots.curves("Open", "us", (1, 50, 99), {"native": [10.0, 20.0, 400.0]})
    points = _points(_paths(svg, "l")[-1])
    assert len(points) == 3
    assert points == sorted(points, key=lambda point: (point[0], -point[1]))


def test_a_line_lies_within_its_frame():
    """Every point of a line is between the outermost lines of the scale."""
    svg = plots.lines("Rate", ("clients", "a second"), {"native": [(1, 900.0), (64, 20_000.0)], "relay": [(1, 30.0)]})
    grid = "".join(_paths(svg, "g"))
    ups = [float(each) for each in re.findall(r"M([\d.]+) [\d.]+V", grid)]
    for path in [each for each in _paths(svg, "l") if "h26" not in each]:
        assert all(min(ups) <= x <= max(ups) for x, _ in _points(path))


def test_lines_of_a_peers_second_library_are_dashed():
    """A peer has one colour; what tells its two libraries apart is the dash."""
    ways = {"squid, PySocks": [(1, 1.0), (2, 2.0)], "squid, python-socks": [(1, 2.0), (2, 3.0)]}
    tree = ElementTree.fromstring(plots.lines("Rate", ("x", "y"), ways))
    drawn = [each for each in tree.iter(f"{_SVG}path") if each.get("class") == "l"]
    assert len({each.get("stroke") for each in drawn}) == 1
    assert {each.get("stroke-dasharray") for each in drawn} == {None, "6 3"}


@pytest.mark.parametrize(
    ("least", "most", "marks"),
    [(1, 64, [1, 5, 10, 50, 100]), (30, 800, [10, 50, 100, 500, 1000]), (0.02, 0.02, [0.01, 0.05])],
)
def test_a_scale_holds_all_that_is_drawn(least, most, marks):
    """The lines of a scale are powers of ten and the halves of them, from below the least to above the most."""
    assert plots.ticks(least, most) == pytest.approx(marks)


def test_a_word_of_a_dark_page_is_light():
    """A picture says itself how it looks on a dark page, for it may stand on its own."""
    assert "prefers-color-scheme:dark" in plots.lines("Rate", ("x", "y"), {"native": [(1, 1.0), (2, 2.0)]})
