"""A consumer of a pool: the actor that works, and what the driver knows of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import ray

from bowstring.working import Done, Worker

_DEATHS = (ray.exceptions.RayActorError, ray.exceptions.OutOfMemoryError, ray.exceptions.WorkerCrashedError)


class Consumer:
    """The actor: a `bowstring.working.Worker` in one of its threads, asked and stopped from others."""

    def __init__(self, arguments: Mapping[str, Any]) -> None:
        self._worker = Worker(**arguments)

    def run(self) -> tuple[bool, Done]:
        """Works to the end of the stream (True) or until it is stopped (False)."""
        return self._worker.run(), self._worker.done()

    def done(self) -> Done:
        """What it has done so far."""
        return self._worker.done()

    def stop(self) -> None:
        """Lets it finish its batch, ack it, and go."""
        self._worker.stop()


#: Registered with each Ray once, not with each member.
_ACTOR: Any = ray.remote(Consumer)


class Member:
    """What a pool knows of one of its consumers. None of its methods waits for the consumer."""

    def __init__(self, arguments: Any, options: Mapping[str, Any]) -> None:
        # One thread works, the others answer.
        self._actor = _ACTOR.options(max_concurrency=3, max_restarts=0, **options).remote(arguments)
        #: Settled when it has come to the end, has left, or has died.
        self.running = self._actor.run.remote()
        self._asked = self._actor.done.remote()
        #: What it has done, as far as it has told; none while Ray has no room for it.
        self.last: Done | None = None
        self.is_leaving = False
        #: Once it is gone: whether it saw the stream's end.
        self.has_ended = False
        #: Once it is gone: what ended it, if not the end of the stream or being told to leave.
        self.error: BaseException | None = None
        #: Whether that is its death rather than an error of its work.
        self.has_died = False

    def look(self) -> bool:
        """Takes what it has answered, and asks anew; whether it is gone."""
        if ray.wait([self._asked], timeout=0)[0]:
            try:
                self.last = ray.get(self._asked)
                self._asked = self._actor.done.remote()
            except ray.exceptions.RayError:
                # Its end is told by `running`.
                pass
        if not ray.wait([self.running], timeout=0)[0]:
            return False
        try:
            self.has_ended, self.last = ray.get(self.running)
        except ray.exceptions.RayTaskError as error:
            self.error = error if error.cause is None else error.cause
        except _DEATHS as error:
            self.error, self.has_died = error, True
        return True

    def leave(self) -> None:
        """It finishes what it has, and goes; one that has not started is not started any more."""
        if self.is_leaving:
            return
        self.is_leaving = True
        self.look()
        if self.last is None:
            self.kill()
        else:
            self._actor.stop.remote()

    def kill(self) -> None:
        """It is gone, with what it has: that comes again to others."""
        ray.kill(self._actor)
