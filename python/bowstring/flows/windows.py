"""Windows of event time, and how long things are."""

from __future__ import annotations

import dataclasses
import datetime
import re

from bowstring.errors import InvalidArgument

#: As text ("500ms", "10s", "1m", "2h", "1d"), as seconds, or as a `datetime.timedelta`.
Duration = str | float | datetime.timedelta

_MICROS = {"us": 1, "ms": 1000, "s": 1_000_000, "m": 60_000_000, "h": 3_600_000_000, "d": 86_400_000_000}
_TEXT = re.compile(r"\s*(-?\d+(?:\.\d+)?)\s*([a-z]+)\s*")


@dataclasses.dataclass(frozen=True)
class Window:
    """Which rows of a key are together: made by `tumbling`, `sliding` or `session`."""

    kind: str
    durations_micros: tuple[int, ...] = ()

    def __str__(self) -> str:
        durations = ", ".join(f"{micros} us" for micros in self.durations_micros)
        return f"{self.kind}({durations})"


@dataclasses.dataclass(frozen=True)
class Firings:
    """What results a window has besides the one once it is over."""

    early_micros: int | None = None
    late_micros: int = 0


#: That one alone.
ON_TIME = Firings()
#: All rows of a key, for ever.
ALL = Window("all")


def tumbling(size: Duration) -> Window:
    """Windows of `size`, one after the other, from 1970 on in UTC. Raises `InvalidArgument`."""
    return Window("tumbling", (micros_of(size, "size"),))


def sliding(size: Duration, slide: Duration) -> Window:
    """Windows of `size`, one of which begins every `slide`. Raises `InvalidArgument`."""
    return Window("sliding", (micros_of(size, "size"), micros_of(slide, "slide")))


def session(gap: Duration) -> Window:
    """Rows of a key that follow each other in less than `gap`, which ends the window. Raises `InvalidArgument`."""
    return Window("session", (micros_of(gap, "gap"),))


def micros_of(duration: Duration, name: str, *, is_signed: bool = False) -> int:
    """A duration in microseconds; it may be negative if it is signed. Raises `InvalidArgument`, which names it."""
    if isinstance(duration, datetime.timedelta):
        micros = duration // datetime.timedelta(microseconds=1)
    elif isinstance(duration, str):
        found = _TEXT.fullmatch(duration)
        if found is None or found[2] not in _MICROS:
            raise _refused(duration, name)
        micros = round(float(found[1]) * _MICROS[found[2]])
    elif isinstance(duration, (int, float)) and duration == duration and abs(duration) < 1e12:
        micros = round(duration * 1_000_000)
    else:
        raise _refused(duration, name)
    if micros < 0 and not is_signed:
        raise _refused(duration, name)
    return micros


def _refused(duration: object, name: str) -> InvalidArgument:
    reason = f"{name} is {duration!r}; give text such as '500ms', '10s', '1m', '2h', '1d', seconds, or a timedelta"
    return InvalidArgument(reason, "invalid_argument", False)
