"""What appends to a stream: producers, and the writers of epochs."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from bowstring import _native

if TYPE_CHECKING:
    from typing_extensions import Self


def importable(value: Any) -> Any:
    """The value, or for a pandas frame without the Arrow interface its table."""
    if hasattr(value, "__arrow_c_stream__") or hasattr(value, "__arrow_c_array__"):
        return value
    if type(value).__module__.partition(".")[0] == "pandas":
        return pa.Table.from_pandas(value, preserve_index=False)
    return value


class Producer:
    """Appends to a stream. A context manager: leaving it closes the producer, an exception does not fail the stream.

    Appends return once the batch is on its way; `flush`, `close` and `complete` wait until all is stored. An append
    that raises is not stored.
    """

    def __init__(self, native: _native.Producer) -> None:
        self._native = native

    @property
    def producer_id(self) -> str:
        """The producer's identity."""
        return self._native.producer_id

    @property
    def stored(self) -> int:
        """Batches known to be stored."""
        return self._native.stored

    def append(self, value: Any, partition: int | None = None, *, timeout: float | None = None) -> None:
        """Appends the batches of any object with `__arrow_c_stream__` or `__arrow_c_array__`.

        Raises `Timeout` after `timeout` seconds without room, `SchemaMismatch`, `TooLarge`, `BufferFull`,
        `StreamEnded`, `Fenced`, and `TypeError` for other objects.
        """
        self._native.append(value if type(value) is pa.RecordBatch else importable(value), partition, timeout)

    def flush(self, timeout: float | None = None) -> None:
        """Waits until all batches so far are stored."""
        self._native.flush(timeout)

    def complete(self, timeout: float | None = None) -> None:
        """Waits until all is stored, then completes the stream."""
        self._native.complete(timeout)

    def fail(self, reason: str, timeout: float | None = None) -> None:
        """Ends the stream with an error: readers get what is stored, then `StreamFailed`."""
        self._native.fail(reason, timeout)

    def close(self, timeout: float | None = None) -> None:
        """Waits until all is stored and says goodbye; the stream goes on."""
        self._native.close(timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Where something has gone wrong already, waiting for room could last for ever.
        if kind is None:
            self.close()


class EpochWriter:
    """One task attempt of an epoch: append, then `finish` for the receipt that the commit names."""

    def __init__(self, native: _native.EpochWriter) -> None:
        self._native = native

    @property
    def is_unneeded(self) -> bool:
        """Whether the epoch turned out to be committed already."""
        return self._native.is_unneeded

    def append(self, value: Any, partition: int | None = None, *, timeout: float | None = None) -> None:
        """Stages the batches of any Arrow object. Raises as `Producer.append`, and `EpochError`, `SpoolFull`."""
        self._native.append(value if type(value) is pa.RecordBatch else importable(value), partition, timeout)

    def finish(self, timeout: float | None = None) -> bytes | None:
        """Waits until all is staged. The receipt, or None if there is nothing to name."""
        return self._native.finish(timeout)
