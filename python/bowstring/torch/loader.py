"""A stream's batches by a `DataLoader`'s worker processes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import torch.multiprocessing
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from bowstring.errors import InvalidArgument
from bowstring.torch.steps import Place, steps

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
        self._running: Iterator[Batch] | None = None
        self._stopped: Any = None
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
            batch = next(running, None)
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

    def _start(self) -> None:
        options = dict(self._options)
        context = options.get("multiprocessing_context")
        if context is None or isinstance(context, str):
            context = torch.multiprocessing.get_context(context)
            if self._num_workers:
                options["multiprocessing_context"] = context
        self._stopped = context.Event()
        # Before workers ask for it, each at its time, and find more acked than another.
        self.dataset.begun()
        view = _Endless(self.dataset, self._stopped)
        loader = DataLoader(view, batch_size=None, num_workers=self._num_workers, **options)
        self._running = iter(loader)
        self._loads = self.dataset._loads


class _Endless(IterableDataset["Batch"]):
    """A worker's steps, through all rounds."""

    def __init__(self, dataset: StreamDataset, stopped: Any) -> None:
        super().__init__()
        self._dataset = dataset
        self._place = dataset.place()
        self._begin = dataset.begun()
        self._stopped = stopped
        self._parent = os.getpid()

    def __iter__(self) -> Iterator[Batch]:
        dataset, place, worker = self._dataset, self._place, get_worker_info()
        if worker is not None:
            place = Place(place.rank, place.world_size, worker.id, worker.num_workers)
        for step in steps(dataset._reading, place, self._begin, self._is_over()):
            yield dataset.batch_of(step)

    def _is_over(self) -> Callable[[], bool]:
        """Whether the loader was closed, or its process is no more."""
        return lambda: self._stopped.is_set() or self._parent not in (os.getpid(), os.getppid())
