"""Waits for rows and rounds, and what ends them."""

from __future__ import annotations

import math
import time

from bowstring.errors import Cancelled, Timeout

#: Seconds between two looks at whether to stop.
LOOK = 0.25


class Patience:
    """How long the training waits for what it asks for: `timeout` seconds, for ever if None.

    Here it asks whenever a wait begins. A worker's that reads ahead waits longer: the training's time counts.
    """

    def __init__(self, timeout: float | None) -> None:
        self.timeout = timeout

    def is_over(self) -> bool:
        """Whether nobody will ask for it any more."""
        return False

    def asked_at(self) -> float:
        """Since when the training waits, of `time.monotonic`; infinite while it does not."""
        return -math.inf


class Waiting:
    """A wait that ends by a deadline (`Timeout`), or when nobody needs its end any more (`Cancelled`)."""

    def __init__(self, what: str, patience: Patience) -> None:
        self._what = what
        self._patience = patience
        self._began = time.monotonic()

    def check(self) -> None:
        """Raises if it is over."""
        if self._patience.is_over():
            raise Cancelled(f"{self._what}: the loader was closed meanwhile", "cancelled", False)
        timeout = self._patience.timeout
        if timeout is not None and time.monotonic() - max(self._began, self._patience.asked_at()) > timeout:
            text = f"{self._what}: not there within {timeout} s; append more, or wait longer (timeout)"
            raise Timeout(text, "timeout", True)

    def pause(self) -> None:
        """The time between two looks. Raises if it is over."""
        self.check()
        time.sleep(LOOK / 10)
