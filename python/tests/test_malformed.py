"""Input that no honest client sends: a clear status with a code, and the server goes on."""

from __future__ import annotations

import random
import socket
import struct
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress

import grpc
import pyarrow as pa
import pytest
from pyarrow import flight

import bowstring

from .support import Served, ids, numbered, wait_until

FLIGHT = "/arrow.flight.protocol.FlightService/"


def varint(number: int) -> bytes:
    """Protobuf's variable-length number."""
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*encoded, number])


def field(number: int, value: bytes) -> bytes:
    """A protobuf field of bytes."""
    return varint(number << 3 | 2) + varint(len(value)) + value


def descriptor(*path: str) -> bytes:
    """FlightData.flight_descriptor with a path."""
    return field(1, b"\x08\x01" + b"".join(field(3, part.encode()) for part in path))


def message(batch_or_schema: pa.RecordBatch | pa.Schema) -> tuple[bytes, bytes]:
    """Header and body of its IPC message."""
    encapsulated = batch_or_schema.serialize().to_pybytes()
    length = struct.unpack_from("<i", encapsulated, 4)[0]
    return encapsulated[8 : 8 + length], encapsulated[8 + length :]


BATCH = numbered(0)
SCHEMA_HEADER, _ = message(BATCH.schema)
BATCH_HEADER, BATCH_BODY = message(BATCH)
OPENING = descriptor("numbers") + field(2, SCHEMA_HEADER)
DATA = field(2, BATCH_HEADER) + field(1000, BATCH_BODY)


class Raw:
    """gRPC with whatever bytes as messages."""

    def __init__(self, address: str) -> None:
        self.channel = grpc.insecure_channel(address)

    def call(self, method: str, messages: Iterable[bytes]) -> tuple[grpc.StatusCode, str, dict[str, str]]:
        """Status, text and trailers that the call ends with."""
        call = self.channel.stream_stream(FLIGHT + method)(iter(messages), timeout=10)
        with suppress(grpc.RpcError):
            for _ in call:
                pass
        return call.code(), call.details(), {item.key: item.value for item in call.trailing_metadata()}


@pytest.fixture
def raw(coordinator: bowstring.StreamCoordinator) -> Iterator[Raw]:
    opened = Raw(coordinator.url.removeprefix("grpc://"))
    yield opened
    opened.channel.close()


def goes_on(client: bowstring.Client) -> None:
    """The coordinator works, and only whole batches of honest clients are there."""
    with client.producer("afterwards") as producer:
        producer.append(BATCH)
        producer.complete()
    assert ids(client.iterator("afterwards")) == list(range(10))


def each_is_valid_or_refused(client: bowstring.Client) -> None:
    """Bodies are not looked into on their way; whoever reads is told of what cannot be decoded."""
    (partition,) = client.describe_stream("numbers")["partitions"]
    for offset in range(partition["end"]):
        try:
            (batch,) = client.read("numbers", 0, offset, offset + 1)
            batch.validate(full=True)
        except bowstring.InvalidArgument as error:
            told = (error.code, f"batch {offset} of partition 0" in str(error))
            assert told == ("malformed_message", True)


def test_the_hand_made_messages_are_good_ones(raw: Raw, client: bowstring.Client) -> None:
    code, text, _ = raw.call("DoPut", [OPENING, DATA, DATA])
    assert (code, text) == (grpc.StatusCode.OK, "")
    client.complete_stream("numbers")
    assert ids(client.iterator("numbers")) == [*range(10), *range(10)]


BAD: dict[str, list[bytes]] = {
    "nothing": [],
    "an empty message": [b""],
    "no descriptor": [field(2, SCHEMA_HEADER), DATA],
    "a descriptor without a path": [field(1, b"\x08\x01") + field(2, SCHEMA_HEADER)],
    "a path of three": [descriptor("a", "0", "c") + field(2, SCHEMA_HEADER)],
    "a partition that is no number": [descriptor("numbers", "first") + field(2, SCHEMA_HEADER)],
    "a name with a line break": [descriptor("num\nbers") + field(2, SCHEMA_HEADER)],
    "a name of a megabyte": [descriptor("n" * (1 << 20)) + field(2, SCHEMA_HEADER)],
    "a command that is no JSON": [field(1, b"\x08\x02" + field(2, b"{stream")) + field(2, SCHEMA_HEADER)],
    "a command with an unknown field": [
        field(1, b"\x08\x02" + field(2, b'{"stream": "numbers", "partion": 1}')) + field(2, SCHEMA_HEADER)
    ],
    "no schema": [descriptor("numbers"), DATA],
    "a batch where the schema should be": [descriptor("numbers") + DATA],
    "a schema of random bytes": [descriptor("numbers") + field(2, random.Random(1).randbytes(200))],
    "half a schema": [descriptor("numbers") + field(2, SCHEMA_HEADER[: len(SCHEMA_HEADER) // 2])],
    "a header of random bytes": [OPENING, field(2, random.Random(2).randbytes(200)) + field(1000, BATCH_BODY)],
    "half a body": [OPENING, field(2, BATCH_HEADER) + field(1000, BATCH_BODY[: len(BATCH_BODY) // 2])],
    "a body without a header": [OPENING, field(1000, BATCH_BODY)],
    "a protobuf of random bytes": [random.Random(3).randbytes(300)],
    "a field longer than its message": [varint(1 << 3 | 2) + varint(1 << 40) + b"x"],
    "a field whose length is no number": [varint(1 << 3 | 2) + b"\xff" * 11],
}


@pytest.mark.parametrize("what", BAD)
def test_a_malformed_put_is_refused_with_a_code_and_nothing_is_stored(
    raw: Raw, client: bowstring.Client, what: str
) -> None:
    code, text, trailers = raw.call("DoPut", BAD[what])
    assert code == grpc.StatusCode.INVALID_ARGUMENT, text
    assert trailers["bowstring-code"] in ("malformed_message", "invalid_argument"), text
    assert text.startswith(f"[{trailers['bowstring-code']}] ")
    assert (trailers["bowstring-retry"], trailers["bowstring-stored"]) == ("never", "no")
    for stream in client.get_stats()["streams"]:
        assert (stream["appended_batches"], stream["buffered_batches"], stream["appenders"]) == (0, 0, 0)
    goes_on(client)


def lies() -> Iterator[tuple[str, bytes]]:
    """The batch's header with each of its 8-byte numbers (lengths and offsets among them) replaced by absurd ones."""
    for position in range(0, len(BATCH_HEADER) - 7, 8):
        for absurd in (-1, 1 << 62, (1 << 63) - 1, len(BATCH_BODY) + 8):
            yield (
                f"{absurd} at {position}",
                BATCH_HEADER[:position] + struct.pack("<q", absurd) + BATCH_HEADER[position + 8 :],
            )


def test_absurd_lengths_in_a_header_are_refused_or_harmless(raw: Raw, client: bowstring.Client) -> None:
    refused = 0
    for what, header in lies():
        code, text, trailers = raw.call("DoPut", [OPENING, field(2, header) + field(1000, BATCH_BODY)])
        assert code in (grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT), f"{what}: {text}"
        if code != grpc.StatusCode.OK:
            assert trailers["bowstring-code"] in ("malformed_message", "schema_mismatch"), f"{what}: {text}"
            refused += 1
    assert refused > 20
    described = client.get_stats("numbers")["streams"][0]
    assert described["buffered_bytes"] < 64 * 2000
    each_is_valid_or_refused(client)
    goes_on(client)


def test_a_thousand_mutations_of_good_messages_break_nothing(raw: Raw, client: bowstring.Client) -> None:
    client.create_stream("numbers", schema=BATCH.schema, max_buffered_batches=10_000)
    dice = random.Random(20261121)
    for _ in range(1000):
        mutated = bytearray(dice.choice([OPENING, DATA]))
        for _ in range(dice.randint(1, 4)):
            mutated[dice.randrange(len(mutated))] = dice.randrange(256)
        messages = [bytes(mutated), DATA] if len(mutated) == len(OPENING) else [OPENING, bytes(mutated)]
        code, text, trailers = raw.call("DoPut", messages)
        assert code not in (grpc.StatusCode.UNKNOWN, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED), (
            text
        )
        assert trailers.get("bowstring-code") != "internal", text
    each_is_valid_or_refused(client)
    goes_on(client)


@pytest.mark.parametrize("ticket", [b"", b"{", b"numbers", b'{"stream": "numbers", "follow": 7}', b"\xff" * 100])
def test_a_ticket_that_cannot_be_read_is_refused_with_a_code(raw: Raw, client: bowstring.Client, ticket: bytes) -> None:
    client.create_stream("numbers", schema=BATCH.schema)
    code, text, trailers = raw.call("DoGet", [field(1, ticket)])
    assert (code, trailers["bowstring-code"]) == (grpc.StatusCode.INVALID_ARGUMENT, "invalid_argument"), text
    goes_on(client)


def test_a_ticket_of_a_stream_or_partition_that_is_not_there_says_which(
    stock: flight.FlightClient, client: bowstring.Client
) -> None:
    with pytest.raises(KeyError, match=r"\[stream_not_found\].*nosuch"):
        stock.do_get(flight.Ticket(b'{"stream": "nosuch"}')).read_all()
    client.create_stream("numbers", schema=BATCH.schema, partitions=2)
    for ticket in (b'{"stream": "numbers", "partitions": [7]}', b'{"stream": "numbers", "start": {"7": 0}}'):
        with pytest.raises(pa.ArrowException, match=r"\[partition_out_of_range\].*7"):
            stock.do_get(flight.Ticket(ticket)).read_all()
    with pytest.raises(pa.ArrowException, match=r"\[partition_out_of_range\].*2"):
        writer, _ = stock.do_put(flight.FlightDescriptor.for_path("numbers", "2"), BATCH.schema)
        writer.write_batch(BATCH)
        writer.close()
    with pytest.raises(pa.ArrowInvalid, match=r"\[schema_mismatch\].*text"):
        writer, _ = stock.do_put(flight.FlightDescriptor.for_path("numbers"), BATCH.select(["id"]).schema)
        writer.write_batch(BATCH.select(["id"]))
        writer.close()


def test_bytes_that_are_no_http2_close_only_their_own_connection(serve: Callable[..., Served]) -> None:
    served = serve()
    client = bowstring.connect(served.url)
    host, port = served.address.split(":")
    dice = random.Random(4)
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    settings = b"\0\0\0\4\0\0\0\0\0"
    for start in (b"", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", preface, preface + settings, b"\x16\x03\x01\x02\x00"):
        # The coordinator may close before it has all, or reset.
        with suppress(OSError), socket.create_connection((host, int(port)), timeout=5) as connection:
            connection.sendall(start + dice.randbytes(4096))
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(4096):
                pass
    goes_on(client)
    assert served.child.process.poll() is None


def test_a_client_that_breaks_off_within_a_batch_leaves_nothing_of_it(
    coordinator: bowstring.StreamCoordinator, client: bowstring.Client
) -> None:
    client.create_stream("numbers", schema=BATCH.schema)
    # The last message's length says that more is to come; it never does, and the call stays open until the end.
    raw = Raw(coordinator.url.removeprefix("grpc://"))
    half = field(2, BATCH_HEADER) + varint(1000 << 3 | 2) + varint(len(BATCH_BODY)) + BATCH_BODY[:8]
    code, text, trailers = raw.call("DoPut", [OPENING, DATA, half])
    assert (code, trailers["bowstring-code"]) == (grpc.StatusCode.INVALID_ARGUMENT, "malformed_message"), text
    raw.channel.close()
    wait_until(lambda: client.get_stats("numbers")["streams"][0]["appenders"] == 0)
    client.complete_stream("numbers")
    assert ids(client.iterator("numbers")) == list(range(10)), "the whole batch before it is stored"
