"""The rows of pieces, read from the stream in their order."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pyarrow as pa

from bowstring.client import Client
from bowstring.torch.rounds import Piece

#: Batches of a partition that are read and thrown away rather than begin a read anew behind them.
_GAP = 16


class Rows:
    """Reads pieces whose offsets never fall within a partition; all are named before, so that reading runs ahead."""

    def __init__(
        self, client: Client, stream: str, stream_id: int, schema: pa.Schema | None, pieces: list[Piece]
    ) -> None:
        wanted: dict[int, list[int]] = {}
        for piece in pieces:
            wanted.setdefault(piece.partition, []).append(piece.offset)
        self._readers = {
            partition: _Partition(client, stream, stream_id, schema, partition, _runs(offsets))
            for partition, offsets in wanted.items()
        }

    def of(self, pieces: list[Piece]) -> list[pa.RecordBatch]:
        """The rows of these pieces, which are the next: slices of what was received."""
        slices = []
        for piece in pieces:
            batch = self._readers[piece.partition].at(piece.offset)
            slices.append(batch.slice(piece.first_row, piece.end_row - piece.first_row))
        return slices

    def close(self) -> None:
        """Ends reading."""
        for reader in self._readers.values():
            reader.close()


class _Partition:
    """The wanted batches of a partition, in their order."""

    def __init__(
        self,
        client: Client,
        stream: str,
        stream_id: int,
        schema: pa.Schema | None,
        partition: int,
        runs: list[tuple[int, int]],
    ) -> None:
        self._read = partial(client.read, stream, partition, stream_id=stream_id, schema=schema)
        self._runs = iter(runs)
        self._end = 0
        self._offset = -1
        self._batch: pa.RecordBatch | None = None
        self._batches: Iterator[pa.RecordBatch] | None = None

    def at(self, offset: int) -> pa.RecordBatch:
        while self._offset < offset:
            if self._batches is None or self._offset + 1 >= self._end:
                self.close()
                first, self._end = run = next(self._runs)
                self._batches = self._read(*run)
                self._offset = first - 1
            self._batch = next(self._batches)
            self._offset += 1
        assert self._batch is not None, "offsets are from 0 on"
        return self._batch

    def close(self) -> None:
        batches, self._batches = self._batches, None
        if batches is not None:
            batches.close()  # type: ignore[attr-defined]


def _runs(offsets: list[int]) -> list[tuple[int, int]]:
    """Ranges [first, end) that have all these offsets."""
    runs: list[tuple[int, int]] = []
    for offset in offsets:
        if runs and offset <= runs[-1][1] + _GAP:
            runs[-1] = (runs[-1][0], offset + 1)
        else:
            runs.append((offset, offset + 1))
    return runs
