"""Talk with Redis about shared quotas: one script that hears what a gate holds of many windows, and gives more.

Of each window there is a hash, ``outgate:quota:APP:RESOURCE:PER:START``, with a field for each gate: what it holds, the
run of the gate and the number of its question. What all hold is the sum, so nothing can disagree with it. A question
that comes later than its successor (its gate has hung up meanwhile) changes nothing.

``outgate:born`` is there as long as what was said is; where it is missing, everything was lost, or nothing was ever
there. Then nothing is given for :data:`SETTLING`, in which every gate that answers sees another value and says anew
what it holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha1
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from outgate.core.quota.pool import Answer, Question

if TYPE_CHECKING:
    from redis import Redis

__all__ = ["KEEP", "SETTLING", "Asked", "Heard", "ask", "key_of"]

#: Seconds for which nothing is given after everything was lost: gates say what they hold each second.
SETTLING: Final = 1.5
#: Seconds for which a window is kept after its end, for gates whose clocks are behind.
KEEP: Final = 3600
_BORN: Final = ("outgate:born", "outgate:young")

#: Written for Redis 6 and Valkey: no function, no flag of a later one.
_SCRIPT: Final = """
local gate, run, number = ARGV[1], ARGV[2], tonumber(ARGV[3])
local born = redis.call('GET', KEYS[1])
if not born then
  born = ARGV[4]
  redis.call('SET', KEYS[1], born)
  redis.call('SET', KEYS[2], born, 'PX', ARGV[5])
end
local young = redis.call('EXISTS', KEYS[2])
local answers = {born, young}
for at = 3, #KEYS do
  local key, place = KEYS[at], 6 + (at - 3) * 5
  local holds, need, ahead = tonumber(ARGV[place]), tonumber(ARGV[place + 1]), tonumber(ARGV[place + 2])
  local limit, seconds = tonumber(ARGV[place + 3]), ARGV[place + 4]
  local total, gates, mine, other = 0, 1, nil, 0
  local fields = redis.call('HGETALL', key)
  for field = 1, #fields, 2 do
    if fields[field] == gate then
      mine = fields[field + 1]
    else
      total = total + tonumber(string.match(fields[field + 1], '^%d+'))
      gates = gates + 1
    end
  end
  local late = false
  if mine then
    local held, by, last = string.match(mine, '^(%d+) (%S+) (%d+)$')
    if by ~= run then
      other = 1
    elseif tonumber(last) >= number then
      late, holds, need, ahead = true, tonumber(held), 0, 0
    end
  end
  local granted = 0
  if young == 0 then
    local room = math.max(0, limit - total - holds)
    granted = math.min(need, room)
    granted = granted + math.min(ahead, math.floor((room - granted) / (2 * gates)))
  end
  if not late then
    if holds + granted > 0 then
      redis.call('HSET', key, gate, string.format('%.0f %s %.0f', holds + granted, run, number))
      redis.call('EXPIRE', key, seconds)
    elseif mine then
      redis.call('HDEL', key, gate)
    end
  end
  answers[#answers + 1] = {granted, total + holds + granted, gates, other}
end
return answers
"""
_NAME: Final = sha1(_SCRIPT.encode(), usedforsecurity=False).hexdigest()


class Asked(NamedTuple):
    """A question, and the window that it is about."""

    key: str
    question: Question


class Heard(NamedTuple):
    """What Redis has answered.

    :ivar born: another value than the last time: everything was lost.
    :ivar is_young: whether nothing is given yet because of that.
    :ivar answers: to each question.
    :ivar others: keys of windows in which another run of a gate of this name had the field.
    """

    born: bytes
    is_young: bool
    answers: list[Answer]
    others: list[str]


def key_of(app: str, resource: str, per: str, start: int) -> str:
    """Return the key of a window."""
    return f"outgate:quota:{app}:{resource}:{per}:{start}"


def ask(redis: Redis, gate: str, run: str, number: int, asked: Sequence[Asked], now: float) -> Heard:
    """Say what is held of these windows, and ask for more.

    :param gate: its name in the fleet.
    :param run: of this gate: whatever no other run has.
    :param number: of this question, higher than those before.
    :param now: seconds since 1970, by the clock that the windows go by.
    :raises redis.exceptions.RedisError: there is no answer.
    """
    from redis.exceptions import NoScriptError

    keys = [*_BORN, *(each.key for each in asked)]
    words: list[Any] = [gate, run, number, f"{run}-{number}", round(SETTLING * 1000)]
    for _, each in asked:
        words += (each.holds, each.need, each.ahead, each.limit, max(0, round(each.end - now)) + KEEP)
    try:
        found: Any = redis.evalsha(_NAME, len(keys), *keys, *words)
    except NoScriptError:  # it has begun anew, or this is the first question
        found = redis.eval(_SCRIPT, len(keys), *keys, *words)
    born, young, *rows = found
    others = [each.key for each, row in zip(asked, rows, strict=True) if row[3]]
    return Heard(born, bool(young), [Answer(*row[:3]) for row in rows], others)
