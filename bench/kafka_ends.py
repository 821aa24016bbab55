"""Both ends with Confluent's client, carrying Arrow IPC messages. Usage: kafka_ends append|read ADDRESS TOPIC CASE."""

from __future__ import annotations

import sys

import pyarrow as pa
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from bench.cases import Case, make_batch
from bench.ends import appends, take, wait_for_go
from bench.kafka_broker import MESSAGE_BYTES_MAX

#: Messages that are taken at once where throughput counts.
TAKEN_AT_ONCE = 500


def append(address: str, topic: str, case: Case) -> None:
    settings = {
        "bootstrap.servers": address,
        "message.max.bytes": MESSAGE_BYTES_MAX,
        "queue.buffering.max.kbytes": 512 << 10,
        # The client's default where throughput counts; nothing waits where latency does.
        "linger.ms": 0 if case.work == "latency" else 5,
    }
    producer = Producer(settings)
    producer.list_topics(topic, 60)
    refused: list[KafkaError] = []

    def delivered(error: KafkaError | None, _message: Message) -> None:
        if error is not None:
            refused.append(error)

    batch = make_batch(case)
    meter = wait_for_go()
    for one in appends(case, batch, meter):
        value = one.serialize().to_pybytes()
        while True:
            try:
                producer.produce(topic, value, partition=0, on_delivery=delivered)
                break
            except BufferError:
                # Full of what is on its way.
                producer.poll(0.1)
        producer.poll(0)
    producer.flush()
    if refused:
        raise KafkaException(refused[0])
    meter.say_report()


def read(address: str, topic: str, case: Case) -> None:
    settings = {
        "bootstrap.servers": address,
        "group.id": topic,
        "fetch.message.max.bytes": MESSAGE_BYTES_MAX,
        "fetch.max.bytes": MESSAGE_BYTES_MAX,
        "receive.message.max.bytes": 2 * MESSAGE_BYTES_MAX,
        "queued.max.messages.kbytes": 256 << 10,
    }
    consumer = Consumer(settings)
    consumer.assign([TopicPartition(topic, 0, OFFSET_BEGINNING)])
    consumer.poll(1)
    expected = make_batch(case)
    nbytes = expected.nbytes
    # `consume` waits until it has as many as it was asked for, or until its time is over.
    small = case.work != "latency" and case.batch_bytes <= 64 << 10
    meter = wait_for_go()
    while meter.batches < case.batches:
        messages = consumer.consume(min(TAKEN_AT_ONCE, case.batches - meter.batches), 0.1) if small else []
        if not small and (message := consumer.poll(1)) is not None:
            messages = [message]
        for message in messages:
            if message.error() is not None:
                raise KafkaException(message.error())
            batch = pa.ipc.read_record_batch(pa.py_buffer(message.value()), expected.schema)
            assert batch.num_rows == expected.num_rows, "another batch came"
            take(case, batch, meter, nbytes)
    meter.say_report()
    consumer.close()


if __name__ == "__main__":
    end, address, topic, case = sys.argv[1:]
    {"append": append, "read": read}[end](address, topic, Case.of(case))
