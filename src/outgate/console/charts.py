"""Draw figures as SVG: bars over time, and a line of what has just been. Plain data in, plain data out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from outgate.lookout.words import quantity

__all__ = ["Bar", "Chart", "bars", "ceiling", "line"]

#: The drawing's own measure; it is shown as wide as there is room.
WIDTH, HEIGHT = 720, 180
_LEFT, _BOTTOM, _TOP = 72, 22, 8
#: At most so many bars have their name below.
_NAMED = 8


class Bar(NamedTuple):
    """One stretch of time: what was sent above what was received.

    :ivar label: what stands below it; "" where there is no room.
    :ivar title: what is said of it in full.
    :ivar sent: (y, height) of the part that was sent.
    :ivar received: likewise.
    """

    x: float
    width: float
    label: str
    title: str
    sent: tuple[float, float]
    received: tuple[float, float]


class Chart(NamedTuple):
    """Bars and a scale.

    :ivar every: of how many bars one has a label.
    :ivar lines: (y, text) of each line of the scale.
    :ivar summary: the whole in a sentence, for who cannot see it.
    """

    width: int
    height: int
    left: int
    base: float
    every: int
    bars: tuple[Bar, ...]
    lines: tuple[tuple[float, str], ...]
    summary: str


def ceiling(most: float) -> float:
    """Return the least of 1, 2, 2.5, 5 and 10, 20, … that is no less; 1 for nothing.

    >>> ceiling(1700)
    2000.0
    """
    power = 1.0
    while power * 10 < most:
        power *= 10
    return min(power * step for step in (1, 2, 2.5, 5, 10) if power * step >= most)


def bars(periods: Sequence[tuple[str, int, int]]) -> Chart:
    """Return the chart of (name, bytes sent, bytes received) of each period."""
    most = max((sent + received for _, sent, received in periods), default=0)
    top = ceiling(most)
    base, room = HEIGHT - _BOTTOM, HEIGHT - _BOTTOM - _TOP
    step = (WIDTH - _LEFT) / max(1, len(periods))
    every = max(1, -(-len(periods) // _NAMED))
    made = []
    for number, (name, sent, received) in enumerate(periods):
        low, high = received / top * room, sent / top * room
        title = f"{name}: sent {quantity(sent)}, received {quantity(received)}"
        label = _short(name) if number % every == 0 else ""
        made.append(
            Bar(
                round(_LEFT + number * step + step * 0.14, 2),
                round(step * 0.72, 2),
                label,
                title,
                (round(base - low - high, 2), round(high, 2)),
                (round(base - low, 2), round(low, 2)),
            )
        )
    scale = tuple((round(base - part * room, 2), quantity(part * top)) for part in (0.5, 1.0))
    sums = [sum(sent for _, sent, _ in periods), sum(received for _, _, received in periods)]
    summary = f"sent {quantity(sums[0])}, received {quantity(sums[1])}"
    if most:
        peak = max(periods, key=lambda period: period[1] + period[2])
        summary += f"; most in {peak[0]}, {quantity(peak[1] + peak[2])}"
    return Chart(WIDTH, HEIGHT, _LEFT, base, every, tuple(made), scale, summary)


def _short(name: str) -> str:
    """Return what tells a period from its neighbours: the hour of an hour, month and day of a day."""
    day, _, hour = name.partition(" ")
    return hour[:5] if hour else day[5:]


def line(values: Sequence[float], most: float, width: float, height: float, count: int) -> str:
    """Return the path of a line through values, the latest at the right; "" where there are none.

    :param most: what the whole height has room for, rounded up.
    :param count: how many there is room for.
    """
    shown = values[-count:]
    if not shown:
        return ""
    top = ceiling(most)
    step = width / max(1, count - 1)
    begin = width - (len(shown) - 1) * step
    points = [f"{begin + place * step:.1f} {height - value / top * height:.1f}" for place, value in enumerate(shown)]
    return "M" + "L".join(points)
