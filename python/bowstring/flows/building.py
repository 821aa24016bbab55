"""What a flow does, said step by step; nothing runs before `to(...)` and `run()`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from bowstring.errors import InvalidArgument
from bowstring.flows.jobs import Job
from bowstring.flows.operators import Aggregation, EventTime, Join, ReduceFunction, Reduction
from bowstring.flows.stages import Function, Rows, Stage, name_of
from bowstring.flows.windows import ALL, ON_TIME, Duration, Firings, Window, micros_of

if TYPE_CHECKING:
    from bowstring.subscription import Subscription

#: From a record batch to what takes its place.
BatchFunction = Callable[[pa.RecordBatch], Any]
#: A stream's name, or a function of each batch of results.
Target = str | Callable[[pa.RecordBatch], object]

_MEMORY_BYTES_MAX = 256 << 20


@dataclasses.dataclass(frozen=True)
class Source:
    """The batches of a subscription, and what is done with each."""

    subscription: Subscription
    stages: tuple[Stage, ...] = ()


@dataclasses.dataclass(frozen=True)
class Flow:
    """What is done with the batches of a subscription. Each step gives a new flow; `to` ends it.

    Expressions are SQL text, by DataFusion; functions get record batches, not rows.
    """

    sources: tuple[Source, ...]
    time: EventTime | None = None
    keys: tuple[str, ...] = ()
    of_window: Window = ALL
    firings: Firings = ON_TIME
    operator: Aggregation | Join | None = None
    after: tuple[Stage, ...] = ()
    late: Target | None = None

    def filter(self, condition: str) -> Flow:
        """Rows for which a condition is true go on: ``filter("page LIKE '/buy%'")``."""
        _check_texts("filter", condition)
        return self._then(Rows((("filter", (condition,)),)))

    def map(self, *steps: str | BatchFunction, schema: pa.Schema | None = None) -> Flow:
        """Columns become expressions, ``map("user", "upper(page) AS page")``, or what a function makes of each batch.

        ``"*"`` is all columns. A function gets a record batch and returns one, or a table, or a dict of columns. It is
        called with no rows first, to learn its schema, unless `schema` says it. It must give the same for the same
        batch each time, or a batch that comes again after a crash has other results.
        """
        texts = tuple(step for step in steps if isinstance(step, str))
        if len(texts) == len(steps) and texts:
            return self._then(Rows((("select", texts),)))
        if len(steps) == 1 and callable(steps[0]):
            return self._then(Function(steps[0], schema))
        raise _refused("map takes expressions in SQL, or one function of a record batch")

    def flat_map(self, function: Callable[[pa.RecordBatch], Iterable[Any]], schema: pa.Schema | None = None) -> Flow:
        """Any number of batches in place of each. `schema` says what they have, unless it gives one for no rows."""
        return self._then(Function(function, schema))

    def event_time(self, column: str, lateness: Duration = 0.0, idle: Duration | None = None) -> Flow:
        """Says which column of timestamps is a row's time.

        :param lateness: how far a row may be behind the newest one of its partition. What is later is late: it is not
            counted, and goes where `late_to` says. Windows wait for it.
        :param idle: after how long without a batch a partition holds back no window of the others'; by default never.
        """
        self._check_open("event_time")
        idle_micros = None if idle is None else micros_of(idle, "idle")
        return dataclasses.replace(self, time=EventTime(column, micros_of(lateness, "lateness"), idle_micros))

    def key_by(self, *keys: str) -> Flow:
        """Whose rows are together: columns, or expressions with names (``"user % 10 AS bucket"``)."""
        self._check_open("key_by")
        _check_texts("key_by", *keys)
        return dataclasses.replace(self, keys=keys)

    def window(self, window: Window, *, early: Duration | None = None, late: Duration = 0.0) -> Flow:
        """Which rows of a key are together: `tumbling`, `sliding` or `session`. It needs an `event_time`.

        A window has one result per key, once it is over. With `early` or `late` it may have several, and `firing` says
        which one it is: "early", "on_time" or "late". Each takes the place of those of its key within its window.

        :param early: so often, by the clock, windows that are not over have results so far for keys that have changed;
            0 is each time that the job saves its state.
        :param late: for so long after its end, in event time, a window takes rows, and has another result with them.
            Until then it is kept. Rows that come later go where `late_to` says.
        """
        self._check_open("window")
        if not isinstance(window, Window):
            raise _refused(f"window takes tumbling(...), sliding(...) or session(...), and this is {window!r}")
        firings = Firings(None if early is None else micros_of(early, "early"), micros_of(late, "late"))
        return dataclasses.replace(self, of_window=window, firings=firings)

    def aggregate(self, *results: str) -> Flow:
        """What is computed of them: ``aggregate("count(*) AS n", "sum(x) / count(*) AS mean")``.

        The results have `window_start` and `window_end`, the keys, and these. Each window has one result per key, once
        it is over. Without a window, a key has a new result each time that it has changed, as of then.
        """
        self._check_open("aggregate")
        _check_texts("aggregate", *results)
        return self._aggregated("aggregate", results, None)

    def reduce(self, function: ReduceFunction, *columns: str) -> Flow:
        """Rows of a key become one by a function of two of them, many pairs at a time.

        The function gets two record batches of as many rows, of which those with the same number are of one key, and
        returns one row for each pair, of the same columns. It is called in any order and grouping, so that it has to be
        associative and commutative. The results are as those of `aggregate`, with these columns.

        :param columns: what the function gets: columns, or expressions with names; all but the keys by default.
        """
        self._check_open("reduce")
        if not callable(function):
            raise _refused(f"reduce takes a function of two record batches, and this is {function!r}")
        _check_texts("reduce", *columns)
        return self._aggregated("reduce", columns, Reduction(function, name_of(function)))

    def _aggregated(self, step: str, results: tuple[str, ...], reduction: Reduction | None) -> Flow:
        if self.of_window is not ALL and self.time is None:
            raise _refused(f"a window needs an event_time: say which column is a row's time before {step}")
        operator = Aggregation(self.keys, results, self.of_window, self.firings, self.time, reduction)
        return dataclasses.replace(self, operator=operator)

    def union(self, *others: Flow) -> Flow:
        """The rows of several flows, as they come; they have the same columns. What comes after is done with all."""
        self._check_open("union")
        for other in others:
            other._check_open("union")
            if other.time not in (None, self.time):
                raise _refused("the flows of a union have different event times; say event_time after it")
        return self._of(*self.sources, *(source for other in others for source in other.sources))

    def join(
        self,
        other: Flow,
        on: str | Sequence[str] | Mapping[str, str],
        within: Duration | tuple[Duration, Duration],
    ) -> Flow:
        """Rows of this flow with those of another that have the same keys, and are not far from them in time.

        Results are this flow's columns, then the other's; of these, one whose name is taken ends in ``_right``, and a
        key with one name on both sides comes once. A key that is null is like no other. Each flow needs an
        `event_time`; its rows wait for those of the other as long as some may come. Late rows are only counted.

        :param on: columns, or expressions, that are the same on both sides; a dict has this flow's and the other's.
        :param within: how far the two rows may be from each other; or from when to when the other's may be after this
            flow's: ``("0s", "10m")``, ``("-5s", "5s")``.
        """
        self._check_open("join")
        other._check_open("join")
        if self.time is None or other.time is None:
            raise _refused("a join needs an event_time on both sides: say which column is a row's time before it")
        if self.late is not None or other.late is not None:
            raise _refused("the late rows of a join go nowhere: they have two schemas; leave late_to out")
        if isinstance(on, Mapping):
            keys = tuple(on.items())
        else:
            keys = tuple((key, key) for key in ([on] if isinstance(on, str) else on))
        if isinstance(within, tuple):
            bounds = (micros_of(within[0], "within", is_signed=True), micros_of(within[1], "within", is_signed=True))
        else:
            bounds = (-micros_of(within, "within"), micros_of(within, "within"))
        self._of(*self.sources, *other.sources)
        return dataclasses.replace(self, operator=Join(other.sources, keys, (self.time, other.time), *bounds))

    def inputs(self) -> list[tuple[Source, ...]]:
        """The sources of each input: a join has two of them."""
        return [self.sources, self.operator.right] if isinstance(self.operator, Join) else [self.sources]

    def late_to(self, target: Target) -> Flow:
        """Where rows go that came too late, with `late_by_micros`: a stream, or a function; nowhere by default."""
        if isinstance(self.operator, Join):
            raise _refused("the late rows of a join go nowhere: they have two schemas; leave late_to out")
        return dataclasses.replace(self, late=target)

    def to(
        self,
        target: Target,
        *,
        state: str | None = None,
        save_every: Duration = 1.0,
        memory_bytes_max: int = _MEMORY_BYTES_MAX,
        complete: bool = True,
        name: str | None = None,
    ) -> Job:
        """Where results go: a stream, or a function of each batch of results, such as `print`. Gives the job to run.

        :param state: a directory where the job keeps its state, with the offsets that it reflects: after a crash it
            goes on as if there had been none, and a stream has each result once. A function may be called twice with
            what it was given last. Without it nothing is kept: after a crash what was not acked is read again.
        :param save_every: how often state is saved and results go out; each time is one epoch of the output stream.
        :param memory_bytes_max: for the state; with a directory, more waits there.
        :param complete: complete the output streams when the subscription's stream has ended.
        :param name: what tells the job's output from others'; "STREAM/SUBSCRIPTION" by default.
        """
        subscriptions = self.subscriptions()
        self._check_target(target)
        if self.late is not None:
            self._check_target(self.late)
        if self.operator is None and (self.keys or self.time or self.late is not None or self.of_window is not ALL):
            raise _refused(
                "event_time, key_by, window and late_to do nothing without aggregate, reduce or join: add one"
            )
        if not isinstance(memory_bytes_max, int) or memory_bytes_max < 1:
            raise _refused(f"memory_bytes_max is {memory_bytes_max!r}; give a number of bytes from 1")
        return Job(
            self,
            target,
            state=state,
            save_every_micros=micros_of(save_every, "save_every"),
            memory_bytes_max=memory_bytes_max,
            complete=complete,
            name=name or "+".join(f"{one.stream}/{one.name}" for one in subscriptions),
        )

    def subscriptions(self) -> list[Subscription]:
        """What it reads."""
        return [source.subscription for sources in self.inputs() for source in sources]

    def _check_target(self, target: Target) -> None:
        if not isinstance(target, str) and not callable(target):
            raise _refused(f"results go to a stream, by its name, or to a function, and this is {target!r}")
        first = self.sources[0].subscription._client.url
        if any((one._client.url, one.stream) == (first, target) for one in self.subscriptions()):
            raise _refused(f"stream {target} is read by the flow itself, which would never end; use another one")

    def _then(self, stage: Stage) -> Flow:
        if self.operator is not None:
            return dataclasses.replace(self, after=_joined(self.after, stage))
        return self._of(*(Source(source.subscription, _joined(source.stages, stage)) for source in self.sources))

    def _of(self, *sources: Source) -> Flow:
        """The same of other sources."""
        read = [(one._client.url, one.stream, one.name) for one in (source.subscription for source in sources)]
        for url, stream, name in read:
            if read.count((url, stream, name)) > 1:
                reason = f"subscription {name} of stream {stream} comes twice; subscribe by two names"
                raise _refused(reason)
        return dataclasses.replace(self, sources=sources)

    def _check_open(self, step: str) -> None:
        if self.operator is not None:
            reason = f"{step} after aggregate, reduce or join; a flow has one of them: let another read its output"
            raise _refused(reason)


def flow(subscription: Subscription) -> Flow:
    """Begins a flow over the batches of a subscription: ``bowstring.flow(client.subscription("clicks", "counts"))``."""
    if not hasattr(subscription, "iterator"):
        raise _refused(f"flow takes a subscription, client.subscription(stream, name), and this is {subscription!r}")
    return Flow((Source(subscription),))


def _joined(stages: tuple[Stage, ...], stage: Stage) -> tuple[Stage, ...]:
    """Steps in SQL that follow each other are planned together."""
    if stages and isinstance(stages[-1], Rows) and isinstance(stage, Rows):
        return (*stages[:-1], Rows(stages[-1].steps + stage.steps))
    return (*stages, stage)


def _check_texts(step: str, *texts: object) -> None:
    for text in texts:
        if not isinstance(text, str):
            raise _refused(f"{step} takes expressions in SQL, as text, and this is {text!r}")


def _refused(reason: str) -> InvalidArgument:
    return InvalidArgument(reason, "invalid_argument", False)
