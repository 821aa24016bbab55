"""Large batches: what goes through, and what those are told that do not."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import flight

import bowstring

from .support import Served, filler, wait_until

MIB = 1 << 20
GIB = 1 << 30


def patterned(size: int) -> pa.RecordBatch:
    """A batch of so many bytes whose every word is another."""
    return pa.record_batch({"word": pa.array(np.arange(size // 8))})


def is_patterned(batch: pa.RecordBatch, size: int) -> bool:
    words = batch["word"].to_numpy()
    return len(words) == size // 8 and bool((words == np.arange(size // 8)).all())


def test_batches_of_64_mib_go_through_unchanged(client: bowstring.Client, stock: flight.FlightClient) -> None:
    size = 64 * MIB
    with client.producer("large") as producer:
        producer.append(patterned(size))
    writer, _ = stock.do_put(flight.FlightDescriptor.for_path("large"), patterned(8).schema)
    writer.write_batch(patterned(size))
    writer.close()
    client.complete_stream("large")
    assert all(is_patterned(batch, size) for batch in client.iterator("large", subscription=None, prefetch_bytes=MIB))
    reader = stock.do_get(flight.Ticket(b'{"stream": "large"}'))
    assert [is_patterned(chunk.data, size) for chunk in reader] == [True, True]


def test_a_batch_above_the_streams_limit_is_refused_at_once_with_the_limit(
    client: bowstring.Client, stock: flight.FlightClient
) -> None:
    client.create_stream("small", max_buffered_bytes=MIB)
    producer = client.producer("small")
    with pytest.raises(bowstring.TooLarge, match=str(MIB)) as caught:
        producer.append(filler(2 * MIB))
        producer.flush(timeout=5)
    assert (caught.value.code, caught.value.retryable) == ("batch_too_large", False)

    writer, _ = stock.do_put(flight.FlightDescriptor.for_path("small"), filler(8).schema)
    with pytest.raises(pa.ArrowException, match=rf"\[batch_too_large\].*{MIB}"):
        writer.write_batch(filler(2 * MIB))
        writer.close()
    stats = client.get_stats("small")["streams"][0]
    assert (stats["appended_batches"], stats["buffered_bytes"]) == (0, 0)
    with client.producer("small") as other:
        other.append(filler(MIB // 2))
    assert client.get_stats("small")["streams"][0]["appended_batches"] == 1


def test_a_batch_of_just_under_1_gib_goes_through_a_coordinator_of_its_own(serve: Callable[..., Served]) -> None:
    client = bowstring.connect(serve().url)
    size = GIB - MIB
    with client.producer("huge") as producer:
        producer.append(patterned(size))
        producer.complete()
    with client.iterator("huge") as iterator:
        batch = next(iterator)
    assert is_patterned(batch, size)


def test_a_batch_above_1_gib_is_refused_before_it_is_sent_and_the_producer_goes_on(client: bowstring.Client) -> None:
    producer = client.producer("huge")
    with pytest.raises(bowstring.TooLarge, match=str(GIB)) as caught:
        producer.append(filler(GIB + MIB))
    assert (caught.value.code, caught.value.retryable) == ("message_too_large", False)
    producer.append(filler(8))
    producer.close()
    assert client.get_stats("huge")["streams"][0]["appended_batches"] == 1


def test_a_message_above_the_servers_limit_is_refused_with_the_limit_whoever_sends_it(
    serve: Callable[..., Served],
) -> None:
    served = serve("--message-bytes-max", "4MiB")
    client = bowstring.connect(served.url)
    with flight.connect(served.url) as stock:
        writer, _ = stock.do_put(flight.FlightDescriptor.for_path("large"), filler(8).schema)
        with pytest.raises(pa.ArrowException, match=rf"\[message_too_large\].*{4 * MIB}"):
            writer.write_batch(filler(5 * MIB))
            writer.close()
    producer = client.producer("large")
    with pytest.raises(bowstring.TooLarge, match=str(4 * MIB)):
        producer.append(filler(5 * MIB))
        producer.flush()
    with client.producer("large") as other:
        other.append(filler(3 * MIB))
    wait_until(lambda: client.get_stats("large")["streams"][0]["appended_batches"] == 1)
