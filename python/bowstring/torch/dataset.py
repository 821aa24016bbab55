"""A stream as a dataset to train on: equal batches for every rank, exact to resume."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch.distributed
from torch.utils.data import IterableDataset, get_worker_info

from bowstring.client import Client, connect
from bowstring.dialect import plain_schema
from bowstring.errors import InvalidArgument
from bowstring.torch.loader import StreamLoader
from bowstring.torch.rounds import ack_state
from bowstring.torch.state import State, count
from bowstring.torch.steps import Place, Reading, Remainder, Step, oldest, steps
from bowstring.torch.tensors import tensors_of
from bowstring.torch.waiting import Patience

Transform = Callable[[dict[str, Any]], Mapping[str, Any]]


class Batch(dict[str, Any]):
    """A rank's batch: tensors by the name of their column, and what is said below as attributes.

    It goes through a `DataLoader`'s processes and `pin_memory` as it is.
    """

    #: The number of its round, from 0 on.
    round: int
    #: Whether it is the last of its round.
    is_last: bool
    #: How far all ranks are once each has had this batch: what `load_state_dict` and `ack` take.
    state: dict[str, Any]


class StreamDataset(IterableDataset[Batch]):
    """An `IterableDataset` over a stream; `for batch in dataset` is one round of training.

    A *round* is `round_rows` rows of the stream (what training calls an epoch; an epoch of bowstring is what a producer
    commits at once). Rank 0 says which rows, as soon as they are visible, in a stream beside this one
    (`<stream>.rounds.<subscription>`), so that all ranks divide the same rows. In each step the next
    `world_size * batch_rows` rows are divided: rank r gets rows [r * batch_rows, (r + 1) * batch_rows) of them. So
    every rank has the same number of batches in every round, each of `batch_rows` rows, whatever partitions hold. Rows
    come in turn from all partitions, a batch of the producer's from each.

    All ranks are to have the same `batch_rows`, `world_size` and `remainder`, which no rank compares with another's:
    where they differ, so do the numbers of batches, and rows come twice or never.

    Every rank receives the batches that its rows are in: where those are larger than `batch_rows`, that is all of them.

    Args:
        url: the coordinator's.
        stream: the stream's name.
        batch_rows: rows of each batch.
        round_rows: rows of each round; the last round of a stream has what is left.
        subscription: what holds the stream's batches until `ack`; created if it does not exist.
        remainder: what becomes of a round's rows that are not enough for a step of all ranks: "carry", the next round
            begins with them (after the last one they are not given); "drop"; or "pad", the last step is filled up
            with rows from the round's beginning (of what is left of it, where a state within it was loaded: what came
            before may be acked and gone).
        rank, world_size: which rank this is, of how many; by default what `torch.distributed` says where it is
            initialised when iteration begins, else the environment's RANK and WORLD_SIZE, else 0 of 1.
        columns: those to give; all by default.
        schema: the columns to read and their types, as for `StreamingIterator`.
        transform: is given the dict of a batch, and what it returns (a dict, too) is given in its place. It runs in the
            loader's worker.
        writable: tensors have memory of their own. With False those of numbers look at the batch as it was received,
            without a copy, where its rows came in one batch of the stream; `transform` is given the same. Write to
            none of them then (`x += 1`, `x.add_(1)`): on the producer's host the process may die (SIGSEGV), and where
            it does not others may see the change.
        timeout: seconds to wait for a round's rows; for ever by default. With a loader those that the training waits,
            not those of workers that read ahead.

    Numbers, booleans, dates and times come as tensors, dates and times as integers in their unit, lists of a fixed size
    and fixed-shape tensors with more dimensions; everything else as a list of Python's values.

    After an error, too, the next `for` goes on behind the last batch that was given.

    Iterating raises `Timeout`, `StreamFailed`, `StreamReplaced`, `Fenced` in a rank 0 that another has taken over from,
    and `InvalidArgument`, for instance for a column of numbers that has nulls.
    """

    def __init__(
        self,
        url: str,
        stream: str,
        *,
        batch_rows: int,
        round_rows: int,
        subscription: str = "training",
        remainder: Remainder = "carry",
        rank: int | None = None,
        world_size: int | None = None,
        columns: Sequence[str] | None = None,
        schema: object | None = None,
        transform: Transform | None = None,
        writable: bool = True,
        timeout: float | None = None,
    ) -> None:
        super().__init__()
        for name, value in (("batch_rows", batch_rows), ("round_rows", round_rows)):
            if value < 1:
                raise InvalidArgument(f"{name} is {value}; use a number from 1", "invalid_argument", False)
        if remainder not in ("carry", "drop", "pad"):
            text = f"remainder is {remainder!r}; use 'carry', 'drop' or 'pad'"
            raise InvalidArgument(text, "invalid_argument", False)
        kept = None if columns is None else tuple(columns)
        self._reading = Reading(
            url, stream, subscription, batch_rows, round_rows, remainder, plain_schema(schema), kept, timeout
        )
        self._rank = rank
        self._world_size = world_size
        self._transform = transform
        self._writable = writable
        self._state: State | None = None
        #: Steps that go on, of this process alone.
        self._steps: Iterator[Step] | None = None
        self._loads = 0
        self._client: tuple[int, Client] | None = None

    def __iter__(self) -> Iterator[Batch]:
        """What is left of the round that was begun, else the next round; nothing once the stream has ended."""
        if get_worker_info() is not None:
            text = "a DataLoader's workers would each give every batch, and every round the same ones"
            raise InvalidArgument(f"{text}; use dataset.loader(num_workers=...)", "invalid_argument", False)
        loads = self._loads
        while self._loads == loads:
            try:
                if self._steps is None:
                    patience = Patience(self._reading.timeout)
                    self._steps = steps(self._reading, self.place(), self.begun(), patience)
                step = next(self._steps, None)
                if step is None:
                    return
                batch = self.batch_of(step)
            except BaseException:
                # The next `for` begins anew, behind the last batch that was given.
                self._steps = None
                raise
            self._state = step.state
            yield batch
            if step.is_last:
                return

    def loader(self, num_workers: int = 0, **options: Any) -> StreamLoader:
        """The same batches, read by so many processes of a `DataLoader`, which run ahead through the rounds.

        `options` are a `DataLoader`'s `multiprocessing_context`, `prefetch_factor`, `pin_memory` and the like.
        """
        return StreamLoader(self, num_workers, options)

    def state_dict(self) -> dict[str, Any]:
        """How far it is: after the last batch that it, or a `loader` of it, has given. The same for every rank.

        Raises `InvalidArgument` before it was iterated.
        """
        if self._state is None:
            text = "there is no state before the first batch; without one a training begins at the last ack"
            raise InvalidArgument(text, "invalid_argument", False)
        return self._state.to_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on where this state was, saved by any rank of a world of any size: nothing is lost or doubled.

        All ranks load the same one. `batch_rows` and `remainder` may be others than they were; `round_rows` counts for
        rounds that are not made yet. Raises `InvalidArgument` if it is of another stream or subscription; if the stream
        was deleted and created again since, the next `for` raises `StreamReplaced`.
        """
        self._state = State.from_dict(state, self._reading.stream, self._reading.subscription)
        self._steps = None
        self._loads += 1

    def ack(self, state: Mapping[str, Any] | None = None) -> None:
        """What came before this state (by default the present one) is never read again, and may be dropped.

        Call it once the state is saved, safely; one rank is enough. Until then the stream keeps the rows; what does not
        fit into its memory spools. Raises `InvalidArgument`, `StreamNotFound`, `StreamReplaced`, `Unavailable`.
        """
        reading = self._reading
        given = State.from_dict(self.state_dict() if state is None else state, reading.stream, reading.subscription)
        ack_state(self._connected(), given)

    @property
    def rows_left(self) -> int:
        """Rows of the rounds begun so far that no rank has been given. 0 before the first batch."""
        return 0 if self._state is None else count(self._state.left)

    def place(self) -> Place:
        """Which rank this is."""
        rank, world_size = self._rank, self._world_size
        is_initialized = torch.distributed.is_available() and torch.distributed.is_initialized()
        if rank is None:
            rank = torch.distributed.get_rank() if is_initialized else int(os.environ.get("RANK", "0"))
        if world_size is None:
            world_size = (
                torch.distributed.get_world_size() if is_initialized else int(os.environ.get("WORLD_SIZE", "1"))
            )
        if not 0 <= rank < world_size:
            text = f"rank is {rank} of world_size {world_size}; ranks are from 0 to world_size - 1"
            raise InvalidArgument(text, "invalid_argument", False)
        return Place(rank, world_size)

    def begun(self) -> State:
        """Where it is; without a state where the subscription's acks have come to."""
        if self._state is None:
            self._state = oldest(self._reading, self.place())
        return self._state

    def _note(self, state: dict[str, Any]) -> None:
        """A loader has given the batch with this state."""
        self._state = State.from_dict(state, self._reading.stream, self._reading.subscription)
        self._steps = None

    def batch_of(self, step: Step) -> Batch:
        """The step's tensors, transformed."""
        values: Mapping[str, Any] = tensors_of(step.batch, self._writable)
        if self._transform is not None:
            values = self._transform(dict(values))
            if not isinstance(values, Mapping):
                text = f"transform returned {type(values).__name__}; it is to return a dict of what the batch has"
                raise InvalidArgument(text, "invalid_argument", False)
        batch = Batch(values)
        batch.round, batch.is_last, batch.state = step.round, step.is_last, step.state.to_dict()
        return batch

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_steps": None, "_client": None}

    def __repr__(self) -> str:
        return f"StreamDataset({self._reading.url!r}, {self._reading.stream!r})"

    def _connected(self) -> Client:
        # A forked child has none of its parent's connections.
        if self._client is None or self._client[0] != os.getpid():
            self._client = (os.getpid(), connect(self._reading.url))
        return self._client[1]
