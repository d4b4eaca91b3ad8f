"""Draw Mermaid state diagrams as SVG when the site is built, without a script from anywhere.

A forge draws a `mermaid` block itself; a browser would need megabytes of JavaScript for it. The states of a lease need
little: boxes one below the other, and for each arrow a lane at their right, with its words where it begins.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

#: All in pixels: of a box, between boxes, of a line that begins or ends at a box, of a letter, between lanes.
BOX, GAP, PORT, LETTER, LANE = 84, 14, 19, 6.6, 15
_ARROW = re.compile(r"\s*(\w+) --> (\w+)(?:: (.+))?")
_STYLE = "stroke:currentColor;fill:none;stroke-width:1.2"


class Arrow(NamedTuple):
    """From a state to a state, and what it is called."""

    start: str
    end: str
    words: str


def read(text: str) -> list[Arrow]:
    """Return the arrows between states of a diagram; where it begins and ends the boxes' order says.

    :raises ValueError: it is no state diagram, or there is a line that is no arrow.
    """
    first, *lines = text.strip().splitlines()
    if first.strip() != "stateDiagram-v2":
        raise ValueError(f"not a state diagram: {first}")
    arrows = []
    for line in lines:
        if "[*]" in line:
            continue
        match = _ARROW.fullmatch(line)
        if match is None:
            raise ValueError(f"not an arrow: {line}")
        arrows.append(Arrow(match[1], match[2], match[3] or ""))
    return arrows


def lanes(spans: Sequence[tuple[float, float]]) -> list[int]:
    """Return a lane for each span, so that no two in one lane overlap and short ones are near the boxes."""
    taken: list[list[tuple[float, float]]] = []
    result = [0] * len(spans)
    for number in sorted(range(len(spans)), key=lambda each: spans[each][1] - spans[each][0]):
        low, high = spans[number]
        free = (lane for lane, there in enumerate(taken) if all(high < a or b < low for a, b in there))
        lane = next(free, len(taken))
        if lane == len(taken):
            taken.append([])
        taken[lane].append((low, high))
        result[number] = lane
    return result


def draw(arrows: Sequence[Arrow]) -> str:
    """Return the SVG of a diagram."""
    states = list(dict.fromkeys([arrow.start for arrow in arrows] + [arrow.end for arrow in arrows]))
    ports: dict[tuple[int, str], float] = {}
    parts, top = [], 4.0
    for state in states:
        # Those that come in are above those that go out, except where an arrow comes back to its own box.
        ends = [(n, "in") for n, arrow in enumerate(arrows) if arrow.end == state]
        ends += [(n, "out") for n, arrow in enumerate(arrows) if arrow.start == state]
        height = max(len(ends), 1) * PORT + 8
        for number, end in enumerate(ends):
            ports[end] = top + 4 + PORT * (number + 0.7)
        parts.append(f'<rect x="4" y="{top}" width="{BOX}" height="{height}" rx="6" style="{_STYLE}"/>')
        parts.append(f'<text x="{4 + BOX / 2}" y="{top + height / 2 + 4}" text-anchor="middle">{escape(state)}</text>')
        top += height + GAP
    right = 4 + BOX
    spans = [tuple(sorted((ports[n, "out"], ports[n, "in"]))) for n in range(len(arrows))]
    first = right + 14 + LETTER * max(len(arrow.words) for arrow in arrows)
    for number, (arrow, lane) in enumerate(zip(arrows, lanes(spans), strict=True)):  # type: ignore[arg-type]
        out, back, x = ports[number, "out"], ports[number, "in"], first + LANE * lane
        parts.append(
            f'<path d="M{right} {out}H{x}V{back}H{right + 2}" style="{_STYLE};stroke-linejoin:round" '
            f'marker-end="url(#tip)"/>'
            f'<text x="{right + 8}" y="{out - 4}">{escape(arrow.words)}</text>'
        )
    width = first + LANE * len(arrows)
    tip = '<marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" viewBox="0 0 {width} {top}" width="{width}" '
        f'style="max-width:100%;height:auto;font:13px sans-serif;fill:currentColor">'
        f"<title>{escape(', '.join(states))}: the table below says the same</title>"
        f'<defs>{tip}<path d="M0 0L8 4L0 8Z"/></marker></defs>{"".join(parts)}</svg>'
    )
