"""Draw figures as SVG: bars side by side, curves of distributions, and lines. Plain data in, text out.

The colours read on light and on dark pages; where the page is dark and the browser says so, words are light.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from html import escape

WIDTH = 760
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 28, 30, 40
_HEIGHT = 300
_BAR, _GAP, _LABEL = 15, 10, 200
_LEGEND_ROW, _LETTER = 18, 6.4
#: A line of fewer points shows where they are.
_MARKED = 8

_STYLE = (
    "text{font:12px sans-serif;fill:#444}.t{font-weight:bold}.g{stroke:#8884;stroke-width:1}"
    ".l{fill:none;stroke-width:2}.m{fill:none;stroke-width:7;stroke-linecap:round}.r{stroke:#444c;stroke-width:2}"
    "@media(prefers-color-scheme:dark){text{fill:#ccc}.r{stroke:#cccc}}"
)
#: A colour for each way, by what stands before the comma; what is not named here is grey.
_COLOURS = {
    "native": "#8a8a8a",
    "direct": "#1f78d1",
    "relay": "#15a06e",
    "microsocks": "#e0762f",
    "dante": "#c2479d",
    "squid": "#a08a14",
    "haproxy": "#8164d6",
    "sandlock": "#d3453f",
    "tethered": "#3aa7b8",
}

Points = Sequence[tuple[float, float]]


def _colour(way: str) -> str:
    return _COLOURS.get(way.partition(",")[0], "#6f6f6f")


def number(value: float) -> str:
    """Return a number in few characters.

    >>> number(26_700), number(0.25), number(12.3)
    ('26,700', '0.25', '12.3')
    """
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def bars(title: str, unit: str, groups: Mapping[str, Mapping[str, tuple[float, float, float]]]) -> str:
    """Return horizontal bars: for each group the median of each way, and a line from its least to its most.

    :param groups: name → way → median, least, most.
    """
    top = max(most for group in groups.values() for _, _, most in group.values())
    room = WIDTH - _LABEL - _RIGHT - 64
    parts, y = [], _TOP + 6.0
    for name, group in groups.items():
        parts.append(_text(0, y + _BAR - 3, name, "t"))
        y += _BAR + 5
        for way, (middle, least, most) in group.items():
            x, begin, end = (each / top * room for each in (middle, least, most))
            middle_y = y + _BAR / 2 - 1
            parts.append(_text(_LABEL - 8, y + _BAR - 4, way, anchor="end"))
            parts.append(f'<rect x="{_LABEL}" y="{y:g}" width="{x:.1f}" height="{_BAR - 3}" fill="{_colour(way)}"/>')
            parts.append(f'<path d="M{_LABEL + begin:.1f} {middle_y:g}H{_LABEL + end:.1f}" class="r"/>')
            parts.append(_text(_LABEL + max(x, end) + 6, y + _BAR - 4, f"{number(middle)} {unit}"))
            y += _BAR
        y += _GAP
    return _svg(title, y, parts)


def curves(title: str, unit: str, shares: Sequence[int], ways: Mapping[str, Sequence[float]]) -> str:
    """Return a curve for each way: what share of measurements took no longer than so much, on a logarithmic scale."""
    of = {way: list(zip(values, shares, strict=True)) for way, values in ways.items()}
    return _drawn(title, of, (unit, "% of measurements that took no longer"), None)


def lines(title: str, words: tuple[str, str], ways: Mapping[str, Points]) -> str:
    """Return a line for each way through its points, both scales logarithmic.

    :param words: what x and y are.
    """
    values = [y for points in ways.values() for _, y in points if y > 0]
    return _drawn(title, ways, words, (min(values), max(values)))


def ticks(least: float, most: float) -> list[float]:
    """Return the lines of a logarithmic scale: powers of ten and the halves of them, from below the least to above.

    >>> ticks(30, 800)
    [10.0, 50.0, 100.0, 500.0, 1000.0]
    """
    low, high = math.floor(math.log10(least)), math.ceil(math.log10(most))
    steps = [step for power in range(low, high + 1) for step in (10.0**power, 5 * 10.0**power)]
    begin = max((step for step in steps if step <= least), default=steps[0])
    end = min((step for step in steps if step >= most), default=steps[-1])
    return [step for step in steps if begin <= step <= end]


def _drawn(
    title: str,
    ways: Mapping[str, Points],
    words: tuple[str, str],
    between: tuple[float, float] | None,
) -> str:
    """Return lines over a logarithmic scale; up, it is one of per cent, or logarithmic between two values."""
    xs = [x for points in ways.values() for x, _ in points]
    across, down = ticks(min(xs), max(xs)), ticks(*between) if between else [0, 25, 50, 75, 100]
    legend, tall = _legend(list(ways))
    base = _TOP + tall + _HEIGHT
    to_x = _scale(across, _LEFT, WIDTH - _RIGHT, True)
    to_y = _scale(down, base, _TOP + tall, between is not None)
    parts = legend
    for value in across:
        parts.append(f'<path class="g" d="M{to_x(value):.1f} {_TOP + tall}V{base}"/>')
        parts.append(_text(to_x(value), base + 16, number(value), anchor="middle"))
    for value in down:
        parts.append(f'<path class="g" d="M{_LEFT} {to_y(value):.1f}H{WIDTH - _RIGHT}"/>')
        parts.append(_text(_LEFT - 6, to_y(value) + 4, number(value), anchor="end"))
    for way, points in ways.items():
        places = [f"{to_x(x):.1f} {to_y(y):.1f}" for x, y in points]
        marks = "".join(f"M{place}h0" for place in places) if len(places) < _MARKED else ""
        parts.append(f'<path class="l" d="M{"L".join(places)}" {_stroke(way)}/>')
        parts.append(f'<path class="m" d="{marks}" stroke="{_colour(way)}"/>' if marks else "")
    parts.append(_text((WIDTH + _LEFT) / 2, base + 34, words[0], anchor="middle"))
    parts.append(_text(0, _TOP + tall - 8, words[1]))
    return _svg(title, base + _BOTTOM, parts)


def _scale(marks: Sequence[float], begin: float, end: float, is_log: bool) -> Callable[[float], float]:
    """Return what places a value between two pixels."""
    of: Callable[[float], float] = math.log10 if is_log else float
    low, high = of(marks[0]), of(marks[-1])
    return lambda value: begin + (of(value) - low) / ((high - low) or 1) * (end - begin)


def _legend(ways: Sequence[str]) -> tuple[list[str], float]:
    """Return the names of lines with a piece of each, and how high they are together."""
    parts, x, y = [], 0.0, float(_TOP)
    for way in ways:
        wide = 34 + _LETTER * len(way) + 14
        if x + wide > WIDTH:
            x, y = 0.0, y + _LEGEND_ROW
        parts.append(f'<path class="l" d="M{x:g} {y + 4:g}h26" {_stroke(way)}/>')
        parts.append(_text(x + 32, y + 8, way))
        x += wide
    return parts, y - _TOP + 2.4 * _LEGEND_ROW


def _stroke(way: str) -> str:
    """Return the looks of a line: what goes by the second library of a peer is dashed."""
    return f'stroke="{_colour(way)}"' + (' stroke-dasharray="6 3"' if way.endswith("python-socks") else "")


def _text(x: float, y: float, text: str, kind: str = "", anchor: str = "") -> str:
    attributes = (f' class="{kind}"' if kind else "") + (f' text-anchor="{anchor}"' if anchor else "")
    return f'<text x="{x:g}" y="{y:g}"{attributes}>{escape(text)}</text>'


def _svg(title: str, height: float, parts: Sequence[str]) -> str:
    head = f'<svg xmlns="http://www.w3.org/2000/svg" role="img" viewBox="0 0 {WIDTH} {height:g}" width="{WIDTH}">'
    inner = "\n".join((f"<title>{escape(title)}</title>", f"<style>{_STYLE}</style>", _text(0, 14, title, "t"), *parts))
    return f"{head}\n{inner}\n</svg>\n"
