"""What a pool tells of itself: what it saw, and what it has done."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Moment:
    """What a pool saw when it looked.

    Attributes:
        at: when, in seconds since the Unix epoch.
        lag: what was not acked, in the pool's unit; None while the coordinator could not be asked.
        size: consumers that it has then, those among them that Ray has no room for yet, without those that leave.
    """

    at: float
    lag: int | None
    size: int


@dataclass(frozen=True)
class PoolStats:
    """What a pool has done so far. What a killed actor did after it last told is not in it.

    Attributes:
        size: consumers, with those that Ray has no room for yet.
        pending: those of them that Ray has no room for, or that are starting.
        leaving: consumers that finish what they have.
        busy: consumers that work on a batch.
        lag: what was not acked when the pool last could look, in its unit.
        started, died: consumers so far.
        batches, rows, failures, repeated, busy_seconds: sums of `bowstring.working.Done`.
    """

    size: int
    pending: int
    leaving: int
    busy: int
    lag: int
    started: int
    died: int
    batches: int
    rows: int
    failures: int
    repeated: int
    busy_seconds: float
