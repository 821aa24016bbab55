"""Reading a stream over several coordinators."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from bowstring.errors import InvalidArgument, StreamNotFound
from bowstring.iterator import StreamingIterator
from bowstring.reading import consumer_arguments
from bowstring.securing import SECURITY_NAMES
from bowstring.spread.consumer import SpreadConsumer

if TYPE_CHECKING:
    from bowstring import _native
    from bowstring.handles import BatchHandles
    from bowstring.reading import Origin
    from bowstring.spread.client import SpreadClient
    from bowstring.spread.places import Places

#: Seconds between two looks for a stream that does not exist yet.
_PAUSE = 0.1
#: What the client says for all of its iterators.
_OF_THE_CLIENT = ("retry_deadline", "local_socket", "shared_memory", "token", *SECURITY_NAMES)


class SpreadIterator(StreamingIterator):
    """A `StreamingIterator` over all coordinators, with the stream's own numbers of partitions. It pickles.

    Batches of the coordinators take turns, and come in order within each partition. One that is away delays its own
    partitions; when that has lasted for the client's `retry_deadline`, `Unavailable` is raised, and the iterator may be
    asked again. It ends when the stream has ended at all of them. If it has failed at one, what the others have comes
    before `StreamFailed`, which waits up to `retry_deadline` for the stream to end there, too.

    A coordinator that comes back at another address is read on behind what the caller has, if batches are acked as
    `StreamingIterator` does by itself, or not at all. By `handles()`, and in the modes "partitioned" and "shared", it
    is read on from the acks, so that batches that were not acked come again; so do rows that were part of a batch.

    Args:
        client: the coordinators, and for how long one may be away.
        stream: the stream's name.
        options: the keyword arguments of `StreamingIterator`, but for `retry_deadline`, `local_socket`,
            `shared_memory`, `tls_...`, `token` and `token_file`, which are the client's. `start` is no epoch. What
            bounds what is read ahead and in flight holds for each coordinator. `mode="partitioned"`: each divides its
            own partitions among the consumers, so that each should have as many as there are consumers.
    """

    def __init__(self, client: SpreadClient, stream: str, **options: Any) -> None:
        refused = [name for name in _OF_THE_CLIENT if name in options]
        if refused:
            text = (
                f"{', '.join(refused)} of a stream over several coordinators is the client's; give it to SpreadClient"
            )
            raise InvalidArgument(text, "invalid_argument", False)
        super().__init__(", ".join(url or "away" for url in client.urls), stream, **options)
        self._client = client

    def handles(self) -> BatchHandles:
        """As `StreamingIterator.handles`. What is not acked comes again when a coordinator is at another address."""
        consumer: Any = self._open()
        consumer.acks_singly()
        return super().handles()

    def __reduce__(self) -> tuple[Any, ...]:
        options = {name: value for name, value in self._arguments.items() if name not in _OF_THE_CLIENT}
        return _restore, (self._client, self.stream, options)

    def __repr__(self) -> str:
        return f"SpreadIterator({self.url!r}, {self.stream!r}, subscription={self.subscription!r})"

    def _open(self) -> _native.Consumer:
        if self._consumer is None:
            if self._ended:
                raise InvalidArgument("the iterator is closed; make a new one", "invalid_argument", False)
            own = {*_OF_THE_CLIENT, "auto_ack", "timeout", "start", "partitions", "stream_wait"}
            arguments = consumer_arguments(**{name: self._arguments[name] for name in self._arguments.keys() - own})
            places = self._places()
            consumer: Any = SpreadConsumer(
                self._client._finder, places, arguments, self._arguments["partitions"], self._arguments["start"]
            )
            self._consumer = consumer
        assert self._consumer is not None, "just opened"
        return self._consumer

    def _still_unacked(self, generation: int | None) -> dict[int, Origin]:
        """What is from coordinators where the cursors are as they were."""
        consumer: Any = self._consumer
        before = self._generation
        if consumer is None or before is None or generation is None:
            return {}
        return {
            partition: origin
            for partition, origin in dict(self._unacked).items()
            if consumer.is_same(partition, before, generation)
        }

    def _places(self) -> Places:
        """Where the partitions are, once the stream is there."""
        deadline = time.monotonic() + self._arguments["stream_wait"]
        while True:
            try:
                return self._client.places(self.stream)
            except StreamNotFound:
                if time.monotonic() > deadline:
                    raise
                time.sleep(_PAUSE)


def _restore(client: SpreadClient, stream: str, options: dict[str, Any]) -> SpreadIterator:
    return SpreadIterator(client, stream, **options)
