"""Ray datasets into streams: all rows of a dataset are one epoch."""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import ray.data
from ray.data.block import Block, BlockAccessor
from ray.data.datasource import Datasink, WriteResult

from bowstring.client import Client, connect
from bowstring.errors import BowstringError, InvalidArgument, StreamNotFound


class StreamDatasink(Datasink[bytes]):
    """Each write task is a writer of the epoch, and the commit names the tasks that Ray counts: see `write_bowstring`.

    A task that fails, or whose worker is killed, is run again as another attempt; what the former has staged is dropped
    with the commit.
    """

    def __init__(self, url: str, stream: str, producer: str, epoch: int, compression: str | None = None) -> None:
        self.url = url
        self.stream = stream
        self.producer = producer
        self.epoch = epoch
        self.compression = compression
        #: A newer run of the same producer ends this one.
        self.run = uuid.uuid4().hex
        #: What became of the epoch.
        self.state: str | None = None

    def open(self) -> bool:
        """Whether there is something to write: False if the epoch is committed already. Makes the stream."""
        client = self._client()
        try:
            options = client.describe_stream(self.stream)["options"]
        except StreamNotFound:
            options = client.create_stream(self.stream, if_not_exists=True)["options"]
        if (shown := options["visibility"]) != "committed":
            reason = f"stream {self.stream} shows batches before their epoch is committed (visibility is {shown})"
            raise InvalidArgument(f"{reason}; write to one of visibility committed", "invalid_argument", False)
        self.state = client.open_epoch(self.stream, self.producer, self.run, self.epoch)
        return self.state == "open"

    def write(self, blocks: Iterable[Block], ctx: Any) -> bytes | None:  # type: ignore[override]
        """Stages the blocks of a task; its receipt, or None if it had no rows."""
        writer = self._client().writer(
            self.stream,
            producer=self.producer,
            run=self.run,
            epoch=self.epoch,
            task=ctx.task_idx,
            # Ray does not number attempts.
            attempt=secrets.randbits(63),
            compression=self.compression,
        )
        for block in blocks:
            if (table := BlockAccessor.for_block(block).to_arrow()).num_rows:
                writer.append(table)
        return writer.finish()

    def on_write_complete(self, write_result: WriteResult[bytes]) -> None:
        """Makes what the tasks have staged visible, all at once."""
        receipts = [receipt for receipt in write_result.write_returns if receipt is not None]
        self.state = self._client().commit_epoch(self.stream, self.producer, self.run, self.epoch, receipts)

    def on_write_failed(self, error: Exception) -> None:
        """Drops what the tasks have staged."""
        # The error that is raised is the one that the tasks had, and a newer run drops what is staged, too.
        with suppress(BowstringError):
            self.state = self._client().abort_epoch(self.stream, self.producer, self.run, self.epoch)

    def get_name(self) -> str:
        """What Ray calls its tasks."""
        return f"bowstring {self.stream}"

    def _client(self) -> Client:
        return connect(self.url)


def write_bowstring(
    dataset: ray.data.Dataset,
    url: str,
    stream: str,
    *,
    producer: str | None = None,
    epoch: int | None = None,
    compression: str | None = None,
    **options: Any,
) -> str:
    """Appends a dataset's rows to a stream, from Ray's tasks, as one epoch: all are seen at once, or none.

    With a `producer` and an `epoch` of one's own a job that is run again changes nothing: what is committed already is
    not even computed, "already_committed"; what was not is begun anew, and a former run still at work is fenced.
    Until the commit the rows are staged at the coordinator, in memory and then in the spool (`max_spool_bytes`). If
    this process is killed meanwhile, what it has staged stays there until the next write of the same producer; without
    a `producer` that is never, and the stream has to be deleted for its room to come back.

    Args:
        dataset: executed by this call.
        url: the coordinator's, as all nodes reach it.
        stream: its name; made with defaults if it does not exist. Visibility has to be "committed".
        producer: whose epoch it is. Without one it is a new producer's, of which a stream remembers 16,384, and nobody
            can take up what a killed job has left: name one in all that matters or is run often.
        epoch: the producer's number of this write, which rises from one to the next.
        compression: of the batches, as for `Client.producer`.
        options: of `Dataset.write_datasink`: `concurrency`, `ray_remote_args`.

    Raises what the dataset's tasks raise; `SchemaMismatch`, `SpoolFull`, `Fenced`, `StreamEnded`, `InvalidArgument`,
    `Unavailable`. Then nothing is visible, unless the answer to the commit was lost: the same producer and epoch again
    tell.
    """
    if (producer is None) != (epoch is None):
        raise InvalidArgument("name a producer and an epoch, or neither", "invalid_argument", False)
    sink = StreamDatasink(url, stream, producer or uuid.uuid4().hex, epoch or 0, compression)
    if sink.open():
        dataset.write_datasink(sink, **options)
    assert sink.state is not None, "set by open and by the commit"
    return sink.state
