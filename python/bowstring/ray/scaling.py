"""How many consumers a lag asks for: up at once, down after a while; and when those that died are replaced."""

from __future__ import annotations

from collections import deque

from bowstring.errors import InvalidArgument

#: Seconds for which nobody is started at most, after deaths.
_REST_MAX = 60.0


class Scaling:
    """One consumer for each `target_lag` that is not acked, from `smallest` to `largest` consumers.

    More are wanted at once; fewer once no more than those were wanted for `shrink_after` seconds, so that a lag that
    goes up and down does not start and end consumers with it.

    Raises `InvalidArgument` for limits that cannot be meant.
    """

    def __init__(self, smallest: int, largest: int, target_lag: float, shrink_after: float) -> None:
        if not 0 <= smallest <= largest or largest < 1:
            reason = f"min_consumers is {smallest} and max_consumers {largest}; use 0 <= min_consumers <= max_consumers"
            raise InvalidArgument(f"{reason}, and 1 <= max_consumers", "invalid_argument", False)
        for name, value in (("target_lag", target_lag), ("shrink_after", shrink_after)):
            if value < 0 or (name == "target_lag" and value == 0):
                raise InvalidArgument(f"{name} is {value}; use a number above 0", "invalid_argument", False)
        self._smallest = smallest
        self._largest = largest
        self._target_lag = target_lag
        self._shrink_after = shrink_after
        #: What was wanted lately, and when, in seconds.
        self._wanted: deque[tuple[float, int]] = deque()
        self._size = smallest

    def size(self, now: float, lag: float | None) -> int:
        """How many there are to be, if this is the lag now; as many as before while it is not known."""
        if lag is None:
            return self._size
        wanted = max(self._smallest, min(self._largest, -int(-lag // self._target_lag)))
        self._wanted.append((now, wanted))
        while self._wanted[0][0] < now - self._shrink_after:
            self._wanted.popleft()
        self._size = max(size for _, size in self._wanted)
        return self._size


class Rest:
    """For how long nobody is started in place of those that died without having done a batch: longer each time.

    The first time one `interval`, in seconds, then twice as long each time, up to a minute.
    """

    def __init__(self, interval: float) -> None:
        self._interval = interval
        self._deaths = 0
        self._until = 0.0

    def extend(self, now: float) -> None:
        """Another has died so, now."""
        self._until = now + min(_REST_MAX, self._interval * 2.0 ** min(self._deaths, 30))
        self._deaths += 1

    def end(self) -> None:
        """One has done its first batch: what killed the others is no matter of all."""
        self._deaths = 0
        self._until = 0.0

    def is_over(self, now: float) -> bool:
        """Whether others may be started now."""
        return self._deaths == 0 or now >= self._until
