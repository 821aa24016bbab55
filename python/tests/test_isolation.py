"""One slow or stalled reader holds up neither other readers nor other streams."""

from __future__ import annotations

import threading
import time

from pyarrow import flight

import bowstring

from .support import PROMPT, filler, ids, numbered, wait_until


def test_a_stalled_consumer_does_not_hold_up_another_subscription(client: bowstring.Client) -> None:
    client.create_stream("numbers", max_buffered_batches=100_000)
    stalled = client.iterator("numbers", subscription="stalled", prefetch_batches=1)
    client.subscribe("numbers", "stalled")
    client.subscribe("numbers", "lively")
    producer = client.producer("numbers")
    producer.append(numbered(0))
    next(stalled)
    for number in range(1, 500):
        producer.append(numbered(number * 10))
    producer.complete()
    started = time.monotonic()
    with client.iterator("numbers", subscription="lively") as lively:
        assert ids(lively) == list(range(5000))
    assert time.monotonic() - started < PROMPT
    assert ids(stalled) == list(range(10, 5000)), "and it gets all once it reads again"


def test_a_consumer_whose_connection_is_full_stalls_nobody_else(
    client: bowstring.Client, stock: flight.FlightClient
) -> None:
    client.create_stream("big", max_buffered_batches=1000)
    with client.producer("big") as producer:
        for _ in range(100):
            producer.append(filler(1 << 20))
    stalled = [stock.do_get(flight.Ticket(b'{"stream": "big", "follow": true}')) for _ in range(4)]
    for reader in stalled:
        reader.read_chunk()
    client.complete_stream("big")
    started = time.monotonic()
    assert sum(batch.num_rows for batch in client.iterator("big")) == 100
    with client.producer("other") as producer:
        producer.append(numbered(0))
        producer.complete()
    assert ids(client.iterator("other")) == list(range(10))
    assert time.monotonic() - started < PROMPT
    for reader in stalled:
        reader.cancel()
    wait_until(lambda: client.get_stats("big")["streams"][0]["readers"] == 0)


def test_a_full_stream_does_not_hold_up_another_on_the_same_coordinator(client: bowstring.Client) -> None:
    client.create_stream("full", max_buffered_batches=1)
    blocked = [client.producer("full") for _ in range(8)]
    for producer in blocked:
        producer.append(numbered(0))
    wait_until(lambda: len(client.describe_stream("full")["waiting"]) == 7)
    got: list[int] = []
    reading = threading.Thread(target=lambda: got.extend(ids(client.iterator("free"))))
    reading.start()
    with client.producer("free") as producer:
        for number in range(1000):
            producer.append(numbered(number * 10))
        producer.complete()
    reading.join(10)
    assert got == list(range(10_000))
    assert len(client.describe_stream("full")["waiting"]) == 7


def test_the_slowest_subscription_alone_decides_what_is_kept(client: bowstring.Client) -> None:
    client.create_stream("numbers", max_buffered_batches=4)
    client.subscribe("numbers", "slow")
    client.subscribe("numbers", "fast")
    producer = client.producer("numbers")
    for number in range(4):
        producer.append(numbered(number * 10))
    producer.flush()
    client.ack("numbers", "fast", {0: 4})
    producer.append(numbered(40))
    wait_until(lambda: client.describe_stream("numbers")["waiting"])
    stats = client.get_stats("numbers")["streams"][0]
    assert (stats["buffered_batches"], stats["dropped_batches"]) == (4, 0), "a batch counts once for both"
    client.ack("numbers", "slow", {0: 1})
    producer.flush(timeout=5)
    stats = client.get_stats("numbers")["streams"][0]
    assert (stats["buffered_batches"], stats["dropped_batches"]) == (4, 1)
