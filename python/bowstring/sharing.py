"""How a shared subscription is shared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Sharing:
    """How a new shared subscription is shared; one that exists stays as it is.

    Attributes:
        max_deliveries: after so many deliveries that failed (refused, not acked in time, or with a consumer that went),
            rows go to the dead letters; 0: never.
        bisect: rows that failed so often are halved, and each half is delivered once more, until single rows are left;
            with keys, those of one of 64 lanes.
        dead_letters: the stream that they go to, made with the first of them: the stream's name and ".dead-letters" by
            default. Its rows have the columns that they had, and `bowstring_reason`, `bowstring_deliveries`,
            `bowstring_stream`, `bowstring_subscription`, `bowstring_partition`, `bowstring_offset`, `bowstring_row` (in
            the batch) and `bowstring_died_at`.
        keys: columns whose values say which rows belong together: those are never with two consumers at once, and a
            consumer gets of each batch the rows whose keys it has. Keys are divided into 64 lanes, so that more than 64
            consumers have nothing to do.
    """

    max_deliveries: int = 5
    bisect: bool = False
    dead_letters: str | None = None
    keys: Sequence[str] = ()

    def arguments(self) -> dict[str, Any]:
        """What the native module takes."""
        return {
            "max_deliveries": self.max_deliveries,
            "bisect": self.bisect,
            "dead_letters": self.dead_letters,
            "keys": list(self.keys),
        }


def reason_of(error: BaseException) -> str:
    """What is told of an exception to who gets the rows next, or finds them among the dead letters."""
    return f"{type(error).__name__}: {error}"
