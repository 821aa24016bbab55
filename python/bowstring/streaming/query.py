"""A streaming query that feeds a stream, and the tie between the two: when one ends, so does the other."""

from __future__ import annotations

import shutil
import threading
import time
from typing import TYPE_CHECKING, Any, final

import bowstring

from .connections import Attached

if TYPE_CHECKING:
    from pyspark.sql.streaming.query import StreamingQuery

#: A sign of life lasts this long: if the driver dies, consumers hear of it after at most this time.
LEASE_SECONDS = 10.0
#: How long a query's own stop may take before the stream is ended under it, which frees what it waits for.
_STOP_SECONDS = 5.0


@final
class StreamingQueryWrapper:
    """A Spark query and the bowstring stream that it feeds.

    It has everything that Spark's ``StreamingQuery`` has, and ends the stream with the query: completed when the
    query ends or is stopped, failed with Spark's reason when it fails. Consumers get what is buffered first.
    While the query runs it gives signs of life, so that consumers notice a dead driver.
    """

    def __init__(
        self,
        query: StreamingQuery,
        stream: str,
        attached: Attached,
        *,
        keep_stream: bool = False,
        temporary: str | None = None,
        producer: tuple[str, str] | None = None,
    ) -> None:
        """`producer` is the producer's id and run where they are not the query's."""
        self.query = query
        self._producer, self._run = producer or (query.id, query.runId)
        self.stream = stream
        self.coordinator = attached.owned
        self._attached = attached
        # One of its own, which gives up early: nothing here may hold up the end.
        ways: dict[str, Any] = {"retry_deadline": _STOP_SECONDS, **attached.client._security}
        self._client = bowstring.connect(attached.url, **ways)
        self._keep_stream = keep_stream
        self._temporary = temporary
        self._stopping = False
        self._ended = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name=f"bowstring-{stream}", daemon=True)
        self._watcher.start()

    def __getattr__(self, name: str) -> Any:
        """What Spark's query has, this has too: id, status, lastProgress, awaitTermination, ..."""
        if name == "query":
            raise AttributeError(name)
        return getattr(self.query, name)

    @property
    def url(self) -> str:
        """Where consumers find the stream."""
        return self._attached.url

    def exception(self) -> Exception | None:
        """Why the query failed; None if it runs or ended in good order."""
        return self.query.exception()

    def stop(self, drain_timeout: float = 30.0) -> bool:
        """Stops the query, ends the stream, and waits until consumers have what was buffered.

        The wait ends at once if nobody reads. Returns whether all subscriptions have acked everything. An
        embedded coordinator is stopped if so; otherwise it stays up for those who read later, until close().
        """
        self._mark_stopping()
        stopper = threading.Thread(target=self._stop_query, name="bowstring-stop", daemon=True)
        stopper.start()
        stopper.join(_STOP_SECONDS)
        if stopper.is_alive():
            # Something of the query waits for the coordinator: ending the stream refuses it.
            self._end_stream()
            stopper.join(_STOP_SECONDS)
        self._ended.wait(_STOP_SECONDS)
        drained = self._drain(drain_timeout)
        if drained:
            self.close()
        return drained

    def close(self) -> None:
        """Stops the query if it runs, and the coordinator if it was started for it. What is buffered there is gone."""
        self._mark_stopping()
        if not self._ended.is_set():
            self._stop_query()
            self._ended.wait(_STOP_SECONDS)
        self._attached.close()

    def __enter__(self) -> StreamingQueryWrapper:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self.close()

    def _mark_stopping(self) -> None:
        """What ends the query from now on is our doing, unless it has failed before: consumers must hear of that."""
        if self._reason() is None:
            self._stopping = True

    def _stop_query(self) -> None:
        try:
            self.query.stop()
        except Exception:  # noqa: BLE001 - a query that failed while stopping has stopped; exception() tells
            return

    def _watch(self) -> None:
        """Until the query ends: signs of life; then the stream's end."""
        while not self._query_ended(LEASE_SECONDS / 4):
            try:
                self._client.keep_producer(self.stream, self._producer, self._run, LEASE_SECONDS)
            except bowstring.BowstringError:
                # The query meets the same error in its own calls and fails with it, or the next sign gets through.
                continue
        self._end_stream()
        if self._temporary is not None:
            shutil.rmtree(self._temporary, ignore_errors=True)
        self._ended.set()

    def _query_ended(self, wait: float) -> bool:
        try:
            return bool(self.query.awaitTermination(max(1, round(wait))))
        except Exception:  # noqa: BLE001 - the query has failed; its exception() says why
            return True

    def _end_stream(self) -> None:
        reason = self._reason()
        try:
            if self._keep_stream:
                if reason is None:
                    self._client.keep_producer(self.stream, self._producer, self._run, 0.0)
            elif reason is None:
                self._client.complete_stream(self.stream)
            else:
                self._client.fail_stream(self.stream, reason)
        except bowstring.BowstringError:
            # Ended already by someone else, or the coordinator is gone and its consumers with it.
            return

    def _reason(self) -> str | None:
        """Why the query failed, in a line or two; None if it was stopped or came to its end."""
        if self._stopping:
            return None
        try:
            error = self.query.exception()
        except Exception as unreachable:  # noqa: BLE001 - the JVM or the Connect server is gone
            return f"the Spark driver is gone: {type(unreachable).__name__}"
        return None if error is None else f"Spark query {self.query.id} failed: {_short(str(error))}"

    def _drain(self, timeout: float) -> bool:
        """Waits until every subscription has acked everything, as long as somebody reads."""
        deadline = time.monotonic() + timeout
        alone_since: float | None = None
        while True:
            try:
                (found,) = self._client.get_stats(self.stream)["streams"]
            except bowstring.BowstringError:
                return False
            now, lag = time.monotonic(), _lag(found)
            alone_since = None if found["readers"] else (alone_since or now)
            alone = alone_since is not None and now - alone_since > 1.0
            if lag == 0 or alone or now > deadline:
                return lag == 0
            time.sleep(0.05)


def _lag(description: dict[str, Any]) -> int:
    """Batches that some subscription has not acked; those that nobody has subscribed to count too."""
    subscriptions = description["subscriptions"]
    if not subscriptions:
        return sum(int(entry["end"]) - int(entry["start"]) for entry in description["partitions"])
    return max(sum(int(entry["lag_batches"]) for entry in one["partitions"]) for one in subscriptions)


def _short(text: str) -> str:
    """The cause, without Spark's plan and Java's frames."""
    text = text.split("=== Streaming Query ===")[0]
    lines = [
        line.strip() for line in text.splitlines() if line.strip() and not line.lstrip().startswith(("at ", "... "))
    ]
    return "\n".join(lines)[:4000]
