"""Static routing: which consumer reads which partitions."""

from __future__ import annotations

import logging
from typing import Any

import bowstring
from bowstring.spread import SpreadClient

from .connections import partition_count

_LOGGER = logging.getLogger("bowstring")


def partitions_of(consumer: int, num_consumers: int, num_partitions: int) -> list[int]:
    """Consumer i of n reads the partitions p with p mod n = i; the consumers together read them all."""
    return list(range(consumer, num_partitions, num_consumers))


def create_partitioned_iterators(
    coordinator: Any,
    num_consumers: int,
    num_partitions: int | None = None,
    *,
    stream: str | None = None,
    subscription: str = "default",
    **iterator_options: Any,
) -> list[bowstring.StreamingIterator]:
    """One iterator per consumer, to be sent to its process or Ray worker: they pickle.

    No partition is left out, whatever the numbers: an existing stream's own number of partitions is what counts.
    `num_partitions` that says less is refused; if it says more, all that are there are divided, and a warning is logged
    (logger "bowstring"). With more consumers than partitions the last ones get nothing but the end of the stream.

    Args:
        coordinator: a ``StreamCoordinator``, a ``Client``, a URL, or what from_spark_streaming returned; for streams
            over several coordinators a ``SpreadClient``, or ``bowstring.ray``'s ``Coordinators``.
        num_consumers: how many iterators to make.
        num_partitions: the stream's partitions; needed only if the stream does not exist yet: it is created.
        stream: the stream's name; may be left out if the coordinator has one stream only.
        subscription: the cursor that the consumers share.
        iterator_options: further arguments of ``StreamingIterator``.
    """
    if num_consumers < 1:
        raise ValueError(f"num_consumers is {num_consumers}; there has to be at least one")
    client, stream = _locate(coordinator, stream)
    count = _count(client, stream, num_partitions)
    return [
        client.iterator(
            stream, subscription=subscription, partitions=partitions_of(i, num_consumers, count), **iterator_options
        )
        for i in range(num_consumers)
    ]


def _locate(coordinator: Any, stream: str | None) -> tuple[bowstring.Client | SpreadClient, str]:
    """The client and the stream's name."""
    if isinstance(coordinator, str):
        client: bowstring.Client | SpreadClient = bowstring.connect(coordinator)
    elif isinstance(coordinator, bowstring.Client | SpreadClient):
        client = coordinator
    elif callable(getattr(coordinator, "client", None)):
        client = coordinator.client()
    else:
        client = bowstring.connect(coordinator.url)
    stream = stream or getattr(coordinator, "stream", None)
    if stream is None:
        names = sorted(found["stream"] for found in client.list_streams())
        if len(names) != 1:
            raise ValueError(
                f"the coordinator has {len(names)} streams ({', '.join(names) or 'none'}); name one with stream="
            )
        (stream,) = names
    return client, stream


def _count(client: bowstring.Client | SpreadClient, stream: str, asked: int | None) -> int:
    try:
        there = partition_count(client.describe_stream(stream))
    except bowstring.StreamNotFound:
        if asked is None:
            raise
        # Created now: if it came later with another number of partitions, some would have no consumer.
        return partition_count(client.create_stream(stream, partitions=asked, if_not_exists=True))
    if asked is not None and asked > there:
        text = "stream %r has %d partitions, not %d; create it with more, as by from_spark_streaming's num_partitions"
        _LOGGER.warning(text, stream, there, asked)
    elif asked not in (None, there):
        raise ValueError(
            f"stream {stream!r} has {there} partitions, not {asked}; "
            "leave num_partitions out, or give the stream's number"
        )
    return there
