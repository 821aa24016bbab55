"""The source: ``spark.readStream.format("bowstring")``.

An offset, as Spark keeps it in its checkpoint, says everything that a restarted query needs: the stream's id
(a stream that was deleted and created again is refused), the query's subscription, where the query began, and
one offset per partition. Spark compares offsets as text, so that their fields always come in one order.
"""

from __future__ import annotations

import signal
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pyspark.sql.datasource import DataSourceStreamReader, InputPartition

import bowstring

from .connections import client_of
from .options import SourceOptions
from .types import Conformer, to_arrow_schema

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql.streaming.datasource import ReadLimit
    from pyspark.sql.types import StructType

try:
    from pyspark.sql.streaming.datasource import ReadAllAvailable, ReadMaxFiles, SupportsTriggerAvailableNow
except ImportError as error:  # pragma: no cover - depends on the installed Spark
    raise ImportError("reading a bowstring stream needs pyspark 4.2 or newer, which has admission control") from error

#: Spark asks for the latest offset every 10 ms while there is nothing new; the coordinator is asked this often.
_IDLE_SECONDS = 0.05

Ends = dict[int, int]


@dataclass(frozen=True)
class SourceOffset:
    """A place in the stream, per partition."""

    stream: str
    stream_id: str
    subscription: str
    #: Where the query began. Spark asks for the start of its first micro-batch again at each restart; this
    #: makes the answer the same.
    initial: Ends
    ends: Ends

    @classmethod
    def parse(cls, value: dict[str, Any], stream: str) -> SourceOffset:
        """Reads what Spark has kept.

        Raises ValueError if it is another stream's or another source's.
        """
        try:
            initial, ends = ({int(p): int(at) for p, at in value[name].items()} for name in ("initial", "ends"))
            found = cls(value["stream"], value["stream_id"], value["subscription"], initial, ends)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ValueError(
                f"the checkpoint's offset {value!r} is none of bowstring's; give the query a checkpoint of its own"
            ) from error
        if found.stream != stream:
            raise ValueError(
                f"the checkpoint belongs to stream {found.stream!r}, but the query reads {stream!r}; "
                "give the query a checkpoint of its own"
            )
        return found

    def json(self) -> dict[str, Any]:
        """As Spark keeps it."""
        initial, ends = ({str(p): at for p, at in sorted(of.items())} for of in (self.initial, self.ends))
        names = {"stream": self.stream, "stream_id": self.stream_id, "subscription": self.subscription}
        return {**names, "initial": initial, "ends": ends}


@dataclass(frozen=True)
class StreamRange(InputPartition):
    """What one Spark task reads: batches [start, end) of one partition."""

    partition: int
    start: int
    end: int
    stream_id: str


class StreamReader(DataSourceStreamReader, SupportsTriggerAvailableNow):
    """Plans on the driver, reads on the executors; both sides get a pickled copy."""

    def __init__(self, options: SourceOptions, schema: StructType) -> None:
        self._options = options
        self._schema = schema
        #: Trigger.AvailableNow: nothing from here on.
        self._target: Ends | None = None
        #: Spark asks for the initial offset twice.
        self._initial: SourceOffset | None = None
        self._asked_at = 0.0

    @property
    def _client(self) -> bowstring.Client:
        return client_of(self._options)

    def _describe(self) -> dict[str, Any]:
        return self._client.describe_stream(self._options.stream)

    def initialOffset(self) -> dict[str, Any]:
        """Where a query without a checkpoint begins. Its subscription starts here, so that nothing is dropped."""
        self._catch_the_end()
        if self._initial is None:
            self._initial = self._begin()
        return self._initial.json()

    def _begin(self) -> SourceOffset:
        options, client = self._options, self._client
        subscription = options.subscription or f"spark-{uuid.uuid4()}"
        latest = options.start == "latest"
        start = "latest" if latest else "earliest"
        client.subscribe(options.stream, subscription, start=start, on_overflow=options.on_overflow)
        if isinstance(options.start, dict):
            client.seek(options.stream, subscription, options.start)
        found = self._describe()
        cursors = cursors_of(found, subscription)
        return SourceOffset(options.stream, str(found["stream_id"]), subscription, cursors, cursors)

    def getDefaultReadLimit(self) -> ReadLimit:
        """Tells Spark that there is a limit of our own; its number is looked at in latestOffset."""
        limited = self._options.max_batches or self._options.max_bytes
        return ReadMaxFiles(limited) if limited else ReadAllAvailable()

    def prepareForTriggerAvailableNow(self) -> None:
        """Takes down what is available now."""
        self._target = ends_of(self._describe())

    def latestOffset(self, start: dict[str, Any], limit: ReadLimit) -> dict[str, Any]:
        """The end of the next micro-batch.

        What it takes in is planned: the producer need not wait for it, though Spark will ack it only once
        there is more to read.
        """
        self._catch_the_end()
        at = SourceOffset.parse(start, self._options.stream)
        self._idle()
        found = self._describe()
        self._check_same(found, at)
        ends = {p: max(end, at.ends.get(p, 0)) for p, end in (self._target or ends_of(found)).items()}
        if ends == at.ends:
            self._plan_again(found, at)
            self._check_alive(found)
            self._asked_at = time.monotonic()
            return start
        self._asked_at = 0.0
        if not isinstance(limit, ReadAllAvailable):
            ends = limit_ends(found, at.ends, ends, self._options)
        self._client.plan(self._options.stream, at.subscription, ends, stream_id=found["stream_id"])
        return replace(at, ends=ends).json()

    def _plan_again(self, found: dict[str, Any], at: SourceOffset) -> None:
        """The last plan may not have come to the coordinator, whose producers would wait in vain."""
        cursors = (one["partitions"] for one in found["subscriptions"] if one["subscription"] == at.subscription)
        known = {int(entry["partition"]): max(entry["acked"], entry["planned"]) for entry in next(cursors, ())}
        if any(end > known.get(partition, end) for partition, end in at.ends.items()):
            self._client.plan(self._options.stream, at.subscription, at.ends, stream_id=found["stream_id"])

    def _idle(self) -> None:
        """Waits out the rest of the interval between two questions that found nothing new."""
        rest = self._asked_at + _IDLE_SECONDS - time.monotonic()
        if rest > 0 and self._target is None:
            time.sleep(rest)

    def _check_same(self, found: dict[str, Any], at: SourceOffset) -> None:
        if str(found["stream_id"]) != at.stream_id:
            raise RuntimeError(
                f"stream {at.stream!r} was deleted and created again since this checkpoint was written: "
                "its offsets mean nothing for the new stream; start the query with a new checkpoint"
            )

    def _check_alive(self, found: dict[str, Any]) -> None:
        """Everything is read: now an error of the producer may end the query."""
        if found["state"] == "failed":
            raise RuntimeError(
                f"stream {self._options.stream!r} was ended with an error by its producer: {found['reason']}"
            )
        lost = [producer["producer"] for producer in found["producers"] if producer["lost"]]
        if lost and found["state"] == "open" and self._options.fail_on_producer_lost:
            raise RuntimeError(
                f"producer {lost[0]} of stream {self._options.stream!r} is lost: it stopped giving signs of life; "
                "restart it and then this query, dismiss it with keep_producer(stream, producer, run, 0) if another "
                "has taken its place, or set failOnProducerLost to false to wait for it"
            )

    def partitions(self, start: dict[str, Any], end: dict[str, Any]) -> list[StreamRange]:
        """One task per partition that has something new."""
        first, last = (SourceOffset.parse(value, self._options.stream) for value in (start, end))
        if first.subscription != last.subscription:
            first = self._first_batch_again(first, last)
        return [
            StreamRange(partition, first.ends[partition], stop, last.stream_id)
            for partition, stop in last.ends.items()
            if stop > first.ends[partition]
        ]

    def _first_batch_again(self, made_up: SourceOffset, planned: SourceOffset) -> SourceOffset:
        """The query stopped before its first micro-batch was done, of which Spark kept the end only.

        `planned`, that end, knows the start too.
        """
        if self._options.subscription is None:
            self._client.unsubscribe(self._options.stream, made_up.subscription)
        self._initial = replace(planned, ends=planned.initial)
        return self._initial

    def read(self, partition: InputPartition) -> Iterator[pa.RecordBatch]:
        """On an executor: the batches of one range, as Spark wants them."""
        assert isinstance(partition, StreamRange), "what partitions() returned"
        conform = Conformer(to_arrow_schema(self._schema))
        client, options = self._client, self._options
        batches = client.read(
            options.stream, partition.partition, partition.start, partition.end, stream_id=int(partition.stream_id)
        )
        for batch in batches:
            yield conform(batch)

    def reportLatestOffset(self) -> dict[str, Any] | None:
        """Not reported: it would cost a question to the coordinator per micro-batch."""
        return None

    def _catch_the_end(self) -> None:
        """Has stop() called: Spark ends the process that plans with SIGTERM, before it comes to that itself."""
        if self._options.complete_on_stop and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            signal.signal(signal.SIGTERM, _exit_once)

    def stop(self) -> None:
        """The query has ended or failed: says so to the producer, if that is wished for."""
        if not self._options.complete_on_stop:
            return
        try:
            self._client.complete_stream(self._options.stream)
        except bowstring.BowstringError:
            # Ended already by someone else, or the coordinator is gone: nobody waits.
            return

    def commit(self, end: dict[str, Any]) -> None:
        """Spark will never ask for anything before `end` again: acks it."""
        done = SourceOffset.parse(end, self._options.stream)
        self._client.ack(self._options.stream, done.subscription, done.ends, stream_id=int(done.stream_id))


def _exit_once(*_: object) -> None:
    """Where a query fails Spark sends SIGTERM twice, and the second would end stop() before it has said anything."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit()


def ends_of(description: dict[str, Any]) -> Ends:
    """One past the last visible offset, per partition."""
    return {int(entry["partition"]): int(entry["end"]) for entry in description["partitions"]}


def cursors_of(description: dict[str, Any], subscription: str) -> Ends:
    """Where a subscription goes on, per partition."""
    found = next(entry for entry in description["subscriptions"] if entry["subscription"] == subscription)
    return {int(entry["partition"]): int(entry["acked"]) for entry in found["partitions"]}


def limit_ends(description: dict[str, Any], start: Ends, ends: Ends, options: SourceOptions) -> Ends:
    """The ends of a micro-batch within the user's limits: a fair share of each partition's backlog.

    At least one batch always goes, however large. Bytes are estimated: the coordinator tells how many bytes a
    partition's batches have had on average.
    """
    room = min(
        options.max_batches or sum(ends.values()),
        max(1, int((options.max_bytes or 0) / _batch_bytes(description))) if options.max_bytes else sum(ends.values()),
    )
    result, backlog = dict(start), {p: ends[p] - start.get(p, 0) for p in ends}
    while room > 0 and (waiting := [p for p in backlog if backlog[p] > 0]):
        share = max(1, room // len(waiting))
        for p in waiting:
            take = min(share, backlog[p], room)
            result[p] = result.get(p, 0) + take
            backlog[p] -= take
            room -= take
    return result


def _batch_bytes(description: dict[str, Any]) -> float:
    """Bytes of an average batch of the stream, at least 1."""
    batches = sum(int(entry["end"]) for entry in description["partitions"])
    total = sum(int(entry["bytes_total"]) for entry in description["partitions"])
    return max(1.0, total / max(1, batches))
