"""The verbs of `bowstring.Client` for streams that are spread over several coordinators."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

from bowstring.client import Client
from bowstring.errors import InvalidArgument, StreamExists, StreamNotFound
from bowstring.looking import StreamLag
from bowstring.securing import Token, security, travelling
from bowstring.sharing import Sharing
from bowstring.spread.finding import Find, Finder
from bowstring.spread.merging import described, lag_over, merged_subscription, moved_over
from bowstring.spread.places import Places, counts, places_of
from bowstring.starts import Moved, Start

if TYPE_CHECKING:
    import pyarrow as pa

    from bowstring.spread.iterator import SpreadIterator
    from bowstring.spread.producer import SpreadProducer

#: Coordinators that are called at the same time.
_CALLS_MAX = 16

_T = TypeVar("_T")


class SpreadClient:
    """Several coordinators as one: each stream's partition p is partition p // n of coordinator p % n.

    Nothing is there twice: a coordinator that is away takes its partitions with it until it is back, and those of
    the others go on. Pickles by `where`. Every method may raise `Unavailable`, when a coordinator was away for
    `retry_deadline` seconds.

    Args:
        where: the coordinators' URLs, in the same order for everybody; or a callable that finds them, None for one that
            is away, which is asked again when one cannot be reached: then a coordinator may come back at another
            address. It has to pickle if the client is to.
        timeout: seconds to try to connect to a coordinator for the first time.
        retry_deadline: seconds to keep trying while a coordinator cannot be reached.
        local_socket, shared_memory, tls_ca, tls_cert, tls_key, tls_server_name, token, token_file:
            as for `bowstring.connect`.

    Raises:
        InvalidArgument: no coordinator, or something that is no URL.
    """

    def __init__(
        self,
        where: Sequence[str] | Find,
        *,
        timeout: float = 10.0,
        retry_deadline: float = 60.0,
        local_socket: bool = True,
        shared_memory: bool = True,
        tls_ca: str | None = None,
        tls_cert: str | None = None,
        tls_key: str | None = None,
        tls_server_name: str | None = None,
        token: Token | None = None,
        token_file: str | None = None,
    ) -> None:
        if isinstance(where, str):
            text = f"where is the text {where!r}; give a list of URLs, or a callable that finds them"
            raise InvalidArgument(text, "invalid_argument", False)
        secured = security(tls_ca, tls_cert, tls_key, tls_server_name, token_file, token)
        self._options = (timeout, retry_deadline, local_socket, shared_memory, secured)
        self._finder = Finder(where, timeout, retry_deadline, local_socket, shared_memory, secured)

    @property
    def urls(self) -> list[str | None]:
        """The coordinators' URLs, as far as they were found."""
        return self._finder.urls

    def __len__(self) -> int:
        """How many coordinators there are."""
        return len(self._finder)

    def coordinator(self, index: int) -> Client:
        """A client of one coordinator, for what is only there: `why`, `peek`, `get_stats`. Raises `Unavailable`.

        Partitions have that coordinator's own numbers: see `places`.
        """
        return self._finder.client(index)

    def places(self, stream: str) -> Places:
        """Where its partitions are. Raises `StreamNotFound`, also if a coordinator has lost its part of it."""
        return self._look(stream)[0]

    def create_stream(
        self, stream: str, *, partitions: int | None = None, if_not_exists: bool = False, **options: Any
    ) -> dict[str, Any]:
        """Creates the stream at all coordinators, and describes it.

        `partitions` are those over all of them, at least as many as there are coordinators, which is the default.
        `options` are those of `Client.create_stream`; limits are of each coordinator, so that
        the stream has as many times as much. Raises `StreamExists` unless `if_not_exists`, which also goes on with a
        creation that was interrupted; `InvalidArgument`.
        """
        there = counts(len(self) if partitions is None else partitions, len(self))
        if 0 in there:
            text = f"{partitions} partitions of stream {stream} are fewer than coordinators; use {len(self)} at least"
            raise InvalidArgument(text, "invalid_argument", False)

        def create(client: Client, count: int) -> object:
            return client.create_stream(stream, partitions=count, if_not_exists=if_not_exists, **options)

        # The first one last: who finds the stream there finds all of it.
        for index in reversed(range(len(there))):
            try:
                self._finder.call(index, lambda client, count=there[index]: create(client, count))  # type: ignore[misc]
            except StreamExists as error:
                text = f"coordinator {index}: {error}"
                raise StreamExists(text, error.code, error.retryable) from None
        description = self.describe_stream(stream)
        if len(description["partitions"]) != sum(there):
            text = f"stream {stream} exists with {len(description['partitions'])} partitions, not {sum(there)}"
            raise StreamExists(text, "stream_exists", False)
        return description

    def describe_stream(self, stream: str) -> dict[str, Any]:
        """Its options, state, partitions and subscriptions with their lag, over all coordinators.

        Names are those of `Client.describe_stream`; `coordinators` has the URL and the description of each one. The
        limits in `options` are those of one coordinator. Raises `StreamNotFound`.
        """
        places, parts = self._look(stream)
        return described(places, parts, self.urls)

    def list_streams(self) -> list[dict[str, Any]]:
        """The descriptions of all streams that are there as a whole, by name."""
        found = []
        for one in self._finder.call(0, lambda client: client.list_streams()):
            try:
                found.append(self.describe_stream(one["stream"]))
            except (StreamNotFound, InvalidArgument):
                continue
        return found

    def delete_stream(self, stream: str) -> None:
        """Deletes the stream with everything in it, also what is left of one. Raises `StreamNotFound`."""
        found = 0
        for index in range(len(self)):
            try:
                self._finder.call(index, lambda client: client.delete_stream(stream))
                found += 1
            except StreamNotFound:
                continue
        if not found:
            text = f"there is no stream {stream} at any of the {len(self)} coordinators"
            raise StreamNotFound(text, "stream_not_found", False)

    def complete_stream(self, stream: str) -> None:
        """Ends the stream in good order at all coordinators. Raises `StreamFailed`, `StreamNotFound`."""
        self._each(range(len(self)), lambda _, client: client.complete_stream(stream))

    def fail_stream(self, stream: str, reason: str) -> None:
        """Ends the stream with an error: readers get what is there, then `StreamFailed`. Raises `StreamNotFound`."""
        self._each(range(len(self)), lambda _, client: client.fail_stream(stream, reason))

    def subscribe(
        self,
        stream: str,
        subscription: str,
        start: Start = "earliest",
        *,
        on_overflow: str = "hold",
        mode: str | None = None,
        sharing: Sharing | None = None,
        query: str | None = None,
    ) -> dict[str, Any]:
        """Creates the subscription at all coordinators, or takes the one that exists; describes it.

        As `Client.subscribe`, but `start` is no epoch, and offsets are no text. Raises as that does.
        """
        places = self.places(stream)

        def ask(index: int, client: Client) -> dict[str, Any]:
            begin = places.start(start, index)
            return client.subscribe(
                stream, subscription, begin, on_overflow=on_overflow, mode=mode, sharing=sharing, query=query
            )

        return merged_subscription(places, self._each(range(len(self)), ask))

    def unsubscribe(self, stream: str, subscription: str) -> None:
        """Removes the subscription; what only it held back is dropped."""
        self._each(range(len(self)), lambda _, client: client.unsubscribe(stream, subscription))

    def ack(self, stream: str, subscription: str, offsets: Mapping[int, int]) -> None:
        """Done with all batches before these offsets, by partition. Raises `OffsetError` beyond the end."""
        places = self.places(stream)
        involved = sorted(places.divided(offsets))
        self._each(involved, lambda index, client: client.ack(stream, subscription, places.offsets(offsets, index)))

    def seek(self, stream: str, subscription: str, start: Start, dry_run: bool = False) -> Moved:
        """Puts the subscription's cursors elsewhere, and says what has moved; with `dry_run`, what would.

        As `Client.seek`, at one coordinator after the other: an error leaves those before it moved, and the same call
        again moves the rest.
        """
        places = self.places(stream)
        begins = {index: places.start(start, index) for index in range(len(self))}
        parts = [
            (index, self._finder.call(index, lambda client, to=begin: client.seek(stream, subscription, to, dry_run)))  # type: ignore[misc]
            for index, begin in begins.items()
        ]
        return moved_over(places, parts, dry_run)

    def lag(self, stream: str) -> StreamLag:
        """What each subscription has not acked, by partition, over all coordinators. Raises `StreamNotFound`."""
        places = self.places(stream)
        return lag_over(places, self._each(range(len(self)), lambda _, client: client.lag(stream)))

    def producer(
        self,
        stream: str,
        *,
        producer_id: str | None = None,
        partition: int | None = None,
        append_timeout: float | None = None,
        schema: pa.Schema | None = None,
        compression: str | None = None,
    ) -> SpreadProducer:
        """A producer for all partitions: see `SpreadProducer`. The stream has to exist; arguments as for `Client`.

        Raises `StreamNotFound`, `OffsetError`.
        """
        from bowstring.spread.producer import SpreadProducer

        options = {"append_timeout": append_timeout, "schema": schema, "compression": compression}
        return SpreadProducer(self._finder, self.places(stream), producer_id, partition, options)

    def iterator(self, stream: str, **options: Any) -> SpreadIterator:
        """Its batches from all coordinators: see `SpreadIterator` for the `options`."""
        from bowstring.spread.iterator import SpreadIterator

        return SpreadIterator(self, stream, **options)

    def __reduce__(self) -> tuple[Any, ...]:
        travelling(self._options[-1])
        return _again, (self._finder.where, *self._options)

    def __repr__(self) -> str:
        return f"SpreadClient({self.urls!r})"

    def _look(self, stream: str) -> tuple[Places, list[dict[str, Any]]]:
        def describe(_: int, client: Client) -> dict[str, Any] | None:
            try:
                return client.describe_stream(stream)
            except StreamNotFound:
                return None

        found = self._each(range(len(self)), describe)
        return places_of(stream, found), [one for one in found if one is not None]

    def _each(self, indices: Iterable[int], verb: Callable[[int, Client], _T]) -> list[_T]:
        """The call at these coordinators, at some of them at the same time."""
        called = list(indices)

        def call(index: int) -> _T:
            return self._finder.call(index, lambda client: verb(index, client))

        if len(called) < 2:
            return [call(index) for index in called]
        with ThreadPoolExecutor(min(len(called), _CALLS_MAX), thread_name_prefix="bowstring-spread") as threads:
            return list(threads.map(call, called))


def _again(
    where: Sequence[str] | Find,
    timeout: float,
    retry_deadline: float,
    local_socket: bool,
    shared_memory: bool,
    secured: dict[str, Any],
) -> SpreadClient:
    return SpreadClient(
        where,
        timeout=timeout,
        retry_deadline=retry_deadline,
        local_socket=local_socket,
        shared_memory=shared_memory,
        **secured,
    )
