"""A subscription of a stream, and the ways to read it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bowstring.epochs import Epochs, epochs_of

if TYPE_CHECKING:
    from bowstring.client import Client
    from bowstring.iterator import StreamingIterator


class Subscription:
    """A named cursor over a stream: what has been delivered and acked. `Client.subscription` makes it; it pickles.

    It is created at the coordinator with the first read, unless it exists.
    """

    def __init__(self, client: Client, stream: str, name: str) -> None:
        self._client = client
        self.stream = stream
        self.name = name

    def iterator(self, **options: Any) -> StreamingIterator:
        """Its batches; `options` are the keyword arguments of `StreamingIterator`."""
        return self._client.iterator(self.stream, subscription=self.name, **options)

    def epochs(self, *, auto_ack: bool = True, **options: Any) -> Epochs:
        """Its epochs, in the order of their commits: each a `CommittedEpoch`, a bounded Arrow stream, acked as a whole.

        An epoch is given once it is committed, so with it all of its batches can be read. With `auto_ack`, asking for
        the next one acks the one before, also if it was not read to its end; not if a `with` block was left with an
        exception. Epochs without a batch are not given. `options` are the keyword arguments of `StreamingIterator`, but
        for the bounds in flight. Reading raises what that raises, and `InvalidArgument` for an `immediate` stream,
        whose epochs are visible before they are whole.
        """
        return epochs_of(self.iterator(**options), auto_ack)

    def __repr__(self) -> str:
        return f"Subscription({self._client.url!r}, {self.stream!r}, {self.name!r})"
