"""Streams whose rows have numbers, and what ranks saw of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

import bowstring


def fill(client: bowstring.Client, sizes: Sequence[int], partitions: int = 3, first: int = 0) -> int:
    """Appends batches of these sizes, in turn to all partitions; the number after the last row's."""
    if "rows" not in [one["stream"] for one in client.list_streams()]:
        client.create_stream("rows", partitions=partitions, max_buffered_batches=10_000)
    with client.producer("rows") as producer:
        for number, size in enumerate(sizes):
            ids = np.arange(first, first + size)
            batch = pa.record_batch({"id": ids, "x": ids / 2})
            producer.append(batch, partition=number % partitions)
            first += size
    return first


def ids_of(batches: Iterable[Any]) -> list[list[int]]:
    """The rows of each batch."""
    found = []
    for batch in batches:
        assert batch["x"].tolist() == [one / 2 for one in batch["id"].tolist()]
        found.append(batch["id"].tolist())
    return found
