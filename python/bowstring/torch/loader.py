"""A stream's batches by a `DataLoader`'s worker processes."""

from __future__ import annotations

import math
import multiprocessing
import multiprocessing.connection
import os
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch.multiprocessing
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from bowstring.errors import BowstringError, InvalidArgument
from bowstring.torch.steps import Place, steps
from bowstring.torch.waiting import Patience

if TYPE_CHECKING:
    from typing_extensions import Self

    from bowstring.torch.dataset import Batch, StreamDataset


class StreamLoader:
    """What `StreamDataset.loader` gives: `for batch in loader` is one round, in the order that the rank has without.

    Its workers connect to the coordinator themselves, forked or spawned. `dataset.state_dict()` is after the last batch
    that the loader gave, whatever its workers have read ahead. A round that was left in its middle goes on with the
    next `for`. `close`, or the end of a `with` block, ends the workers.
    """

    def __init__(self, dataset: StreamDataset, num_workers: int, options: dict[str, Any]) -> None:
        ours = {
            "batch_size",
            "shuffle",
            "sampler",
            "batch_sampler",
            "collate_fn",
            "drop_last",
            "persistent_workers",
            "in_order",
        }
        if wrong := sorted(ours & options.keys()):
            text = f"{', '.join(wrong)}: the stream's rounds say how batches are made and ordered"
            raise InvalidArgument(f"{text}; use batch_rows, round_rows and transform", "invalid_argument", False)
        self.dataset = dataset
        self._num_workers = num_workers
        self._options = options
        self._running: Iterator[Batch | BowstringError] | None = None
        self._stopped: Any = None
        self._asked: Any = None
        self._loads = -1

    def __iter__(self) -> Iterator[Batch]:
        dataset = self.dataset
        if self._running is not None and self._loads != dataset._loads:
            self.close()
        if self._running is None:
            self._start()
        loads, running = self._loads, self._running
        assert running is not None, "just started"
        while loads == dataset._loads and running is self._running:
            try:
                batch = self._next(running)
            except BaseException:
                # The next `for` starts new workers, behind the last batch that was given.
                self.close()
                raise
            if batch is None:
                return
            dataset._note(batch.state)
            yield batch
            if batch.is_last:
                return

    def close(self) -> None:
        """Ends the workers. The next `for` starts new ones, behind the last batch that was given."""
        if self._stopped is not None:
            self._stopped.set()
        self._running = self._stopped = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _next(self, running: Iterator[Batch | BowstringError]) -> Batch | None:
        """Tells the workers meanwhile that it waits."""
        self._asked.value = time.monotonic()
        try:
            found = next(running, None)
        finally:
            self._asked.value = math.inf
        if isinstance(found, BowstringError):
            raise found
        return found

    def _start(self) -> None:
        options = dict(self._options)
        context = options.get("multiprocessing_context")
        if context is None or isinstance(context, str):
            context = torch.multiprocessing.get_context(context)
            if self._num_workers:
                options["multiprocessing_context"] = context
        self._stopped = context.Event()
        # Without a lock, which somebody may die with.
        self._asked = context.Value("d", math.inf, lock=False)
        # Before workers ask for it, each at its time, and find more acked than another.
        self.dataset.begun()
        view = _Endless(self.dataset, self._stopped, self._asked)
        loader = DataLoader(view, batch_size=None, num_workers=self._num_workers, **options)
        self._running = iter(loader)
        self._loads = self.dataset._loads


class _Endless(IterableDataset["Batch | BowstringError"]):
    """A worker's steps, through all rounds; at last the error that ended them, if one did.

    As an item it arrives as it is: of what a worker raises, torch makes one anew, of its text alone.
    """

    def __init__(self, dataset: StreamDataset, stopped: Any, asked: Any) -> None:
        super().__init__()
        self._dataset = dataset
        self._place = dataset.place()
        self._begin = dataset.begun()
        self._stopped = stopped
        self._asked = asked

    def __iter__(self) -> Iterator[Batch | BowstringError]:
        dataset, place, worker = self._dataset, self._place, get_worker_info()
        if worker is not None:
            _end_with_training()
            place = Place(place.rank, place.world_size, worker.id, worker.num_workers)
        patience = _Asked(dataset._reading.timeout, self._stopped, self._asked, in_worker=worker is not None)
        try:
            for step in steps(dataset._reading, place, self._begin, patience):
                yield dataset.batch_of(step)
        except BowstringError as error:
            yield error


def _end_with_training() -> None:
    """Ends this worker once its training is no more, whatever it waits for.

    torch looks at a worker's parent, which lives on with its workers if it is a fork server.
    """
    training = multiprocessing.parent_process()
    if training is None:
        return
    sentinel = training.sentinel

    def watch() -> None:
        multiprocessing.connection.wait([sentinel])
        # Nobody is left who would take what is in the worker's queues.
        os._exit(1)

    threading.Thread(target=watch, name="bowstring-training", daemon=True).start()


class _Asked(Patience):
    """A worker's: the training says since when it waits, and when it closed the loader. It may also be no more."""

    def __init__(self, timeout: float | None, stopped: Any, asked: Any, *, in_worker: bool) -> None:
        super().__init__(timeout)
        self._stopped = stopped
        self._asked = asked
        self._in_worker = in_worker
        self._training = multiprocessing.parent_process()
        #: The training's, or its fork server's.
        self._parent = os.getppid()

    def is_over(self) -> bool:
        return bool(self._stopped.is_set()) or (self._in_worker and self._is_alone())

    def asked_at(self) -> float:
        return float(self._asked.value)

    def _is_alone(self) -> bool:
        # Of a forked training, workers that were forked later hold the sentinel, too: then the parent tells.
        return os.getppid() != self._parent or self._training is None or not self._training.is_alive()
