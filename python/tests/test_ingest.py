"""Rows in JSON, Avro and Protobuf that are sent to a coordinator over HTTP become batches of the stream's schema."""

from __future__ import annotations

import io
import json
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import fastavro
import pyarrow as pa
import pytest
from google.protobuf import descriptor_pb2, message_factory
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.internal import encoder

import bowstring

from .support import Served, Tokens, wait_until

SCHEMA = pa.schema(
    [pa.field("user_id", pa.int64(), nullable=False), ("page", pa.string()), ("at", pa.timestamp("ms", "+00:00"))]
)
DECLARED = {"format": "json", "rejected_to": "clicks.bad", "aliases": {"user_id": ["uid"], "page": ["url"]}}
LINES = "application/x-ndjson"


def post(
    coordinator: bowstring.StreamCoordinator | str, stream: str, content_type: str, body: bytes, **headers: str
) -> tuple[int, dict[str, Any], Mapping[str, str]]:
    """Sends rows; status, answer and headers of what is answered."""
    at = coordinator if isinstance(coordinator, str) else coordinator.http_url
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(
        f"{at}/streams/{stream}/rows", body, {"Content-Type": content_type} | named, method="POST"
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.load(answer), dict(answer.headers)
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code, json.load(refused), dict(refused.headers)


def refusal(answer: tuple[int, dict[str, Any], Mapping[str, str]]) -> tuple[int, str]:
    """Status and code of a refusal, which says what to do."""
    status, said, _ = answer
    assert len(said["error"]["message"]) > 20
    return status, said["error"]["code"]


def rows(client: bowstring.Client, stream: str) -> list[dict[str, Any]]:
    """All rows that are visible."""
    return [row for batch in client.iterator(stream, subscription=None, follow=False) for row in batch.to_pylist()]


@pytest.fixture
def taking() -> Iterator[bowstring.StreamCoordinator]:
    """A coordinator whose stream `clicks` takes rows in JSON."""
    with bowstring.StreamCoordinator(ingest={"clicks": DECLARED}) as running:
        running.client().create_stream("clicks", schema=SCHEMA)
        yield running


def test_good_rows_are_one_batch_and_bad_ones_go_where_row_decoders_rejected_goes(
    taking: bowstring.StreamCoordinator,
) -> None:
    given = [b'{"user_id": 1, "page": "/", "at": 5}', b'{"uid": 2, "url": "/a"}', b'{"uid": "3"}', b"nothing"]
    status, said, _ = post(taking, "clicks", LINES, b"\n".join(given))
    assert (status, said) == (200, {"rows": 2, "rejected": 2})
    client = taking.client()
    (good,) = client.iterator("clicks", subscription=None, follow=False)
    (bad,) = client.iterator("clicks.bad", subscription=None, follow=False)
    decoder = bowstring.RowDecoder(SCHEMA, aliases={"user_id": ["uid"], "page": ["url"]})
    decoded = decoder.decode(given)
    assert good.to_pylist() == decoded.batch.to_pylist()
    assert bad.to_pylist() == decoded.rejected.to_pylist()
    assert bad.schema.equals(decoded.rejected.schema)
    # So that both ways lead to one stream.
    with client.producer("clicks.bad") as producer:
        producer.append(decoded.rejected)
    assert post(taking, "clicks", LINES, b"{}")[1] == {"rows": 0, "rejected": 1}
    assert [batch.num_rows for batch in client.iterator("clicks.bad", subscription=None, follow=False)] == [2, 2, 1]


def test_a_document_is_an_object_or_an_array(taking: bowstring.StreamCoordinator) -> None:
    many = json.dumps([{"user_id": number, "page": '],["'} for number in range(1000)]).encode()
    assert post(taking, "clicks", "application/json; charset=utf-8", many)[1] == {"rows": 1000, "rejected": 0}
    assert post(taking, "clicks", "application/json", b'{"uid": 7}')[1] == {"rows": 1, "rejected": 0}
    assert refusal(post(taking, "clicks", "application/json", many[:-1])) == (400, "invalid_argument")
    assert [row["user_id"] for row in rows(taking.client(), "clicks")] == [*range(1000), 7]


def test_what_is_not_declared_too_large_or_of_another_type_is_refused(taking: bowstring.StreamCoordinator) -> None:
    unknown = post(taking, "nosuch", LINES, b"{}")
    assert refusal(unknown) == (404, "stream_not_found")
    assert "ingest" in unknown[1]["error"]["message"]
    row = b'{"uid": 1}'
    assert post(taking, "clicks", LINES, row + b" " * ((16 << 20) - len(row)))[0] == 200
    assert refusal(post(taking, "clicks", LINES, row + b" " * ((16 << 20) - len(row) + 1))) == (
        413,
        "message_too_large",
    )
    for content_type in ("text/plain", "application/x-www-form-urlencoded", "application/avro"):
        assert refusal(post(taking, "clicks", content_type, row)) == (415, "invalid_argument")
    assert refusal(post(taking, "clicks", LINES, row, Content_Encoding="gzip")) == (415, "invalid_argument")
    assert len(rows(taking.client(), "clicks")) == 1


def test_no_web_page_of_another_site_sends_rows(taking: bowstring.StreamCoordinator) -> None:
    assert taking.http_url is not None
    for headers in (
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site", "Origin": "http://localhost:3000"},
    ):
        assert refusal(post(taking, "clicks", LINES, b'{"uid": 1}', **headers)) == (403, "permission_denied")
    assert refusal(post(taking, "clicks", LINES, b'{"uid": 1}', Host="evil.example")) == (421, "invalid_argument")
    assert rows(taking.client(), "clicks") == []
    assert post(taking, "clicks", LINES, b'{"uid": 1}', Origin=taking.http_url)[0] == 200


def test_a_full_stream_says_when_to_come_again_and_an_epoch_is_taken_once() -> None:
    with bowstring.StreamCoordinator(ingest={"clicks": DECLARED}, append_timeout=0.2) as coordinator:
        client = coordinator.client()
        client.create_stream("clicks", schema=SCHEMA, max_buffered_batches=1)
        client.subscribe("clicks", "reader")
        assert post(coordinator, "clicks", LINES, b'{"uid": 1}')[0] == 200

        def send() -> tuple[int, dict[str, Any], Mapping[str, str]]:
            once = {"Bowstring_Producer": "shop", "Bowstring_Epoch": "7"}
            return post(coordinator, "clicks", LINES, b'{"uid": 2}\n{}', **once)

        for _ in range(2):
            refused = send()
            assert refusal(refused) == (503, "timeout")
            assert {name.lower(): value for name, value in refused[2].items()}["retry-after"] == "1"
        reader = client.iterator("clicks", subscription="reader")
        assert next(reader)["user_id"].to_pylist() == [1]
        reader.ack()
        wait_until(lambda: send()[0] == 200)
        assert send()[1] == {"rows": 0, "rejected": 0, "duplicate": True}
        assert [row["user_id"] for row in rows(client, "clicks")] == [2]
        assert len(rows(client, "clicks.bad")) == 1
        reader.close()


def test_rows_survive_the_coordinator_where_streams_are_durable(tmp_path: Path) -> None:
    def start() -> bowstring.StreamCoordinator:
        return bowstring.StreamCoordinator(ingest={"clicks": DECLARED}, data_dir=str(tmp_path))

    once = {"Bowstring_Producer": "shop", "Bowstring_Epoch": "1"}
    with start() as coordinator:
        coordinator.client().create_stream("clicks", schema=SCHEMA)
        assert post(coordinator, "clicks", LINES, b'{"uid": 1}\n{}', **once)[1] == {"rows": 1, "rejected": 1}
    with start() as coordinator:
        assert post(coordinator, "clicks", LINES, b'{"uid": 1}\n{}', **once)[1]["duplicate"]
        assert [row["user_id"] for row in rows(coordinator.client(), "clicks")] == [1]
        assert len(rows(coordinator.client(), "clicks.bad")) == 1


def test_only_who_may_append_to_both_streams_sends_rows(serve: Any, tmp_path: Path) -> None:
    tokens = Tokens(tmp_path)
    tokens.issue("operator", "admin:*")
    tokens.issue("source", "append:clicks", "append:clicks.bad")
    tokens.issue("half", "append:clicks")
    config = tmp_path / "bowstring.toml"
    config.write_text(
        '[ingest.clicks]\nformat = "json"\nrejected_to = "clicks.bad"\n[ingest.clicks.aliases]\nuser_id = ["uid"]\n'
    )
    served: Served = serve("--config", str(config), "--auth-tokens", str(tokens.path))
    operator = bowstring.connect(served.url, token_file=str(tokens.file_of("operator")))
    operator.create_stream("clicks", schema=SCHEMA)

    def post_as(name: str | None) -> tuple[int, dict[str, Any], Mapping[str, str]]:
        shown = {} if name is None else {"Authorization": f"Bearer {tokens.file_of(name).read_text().strip()}"}
        return post(served.http_url, "clicks", LINES, b'{"uid": 1}\n{}', **shown)

    assert refusal(post_as(None)) == (401, "unauthenticated")
    assert refusal(post_as("half")) == (403, "permission_denied")
    assert post_as("source")[1] == {"rows": 1, "rejected": 1}
    assert [row["user_id"] for row in rows(operator, "clicks")] == [1]


AVRO = {
    "type": "record",
    "name": "Click",
    "fields": [{"name": "uid", "type": "long"}, {"name": "page", "type": ["null", "string"]}],
}


def delimited(given: list[bytes]) -> bytes:
    """Rows, each after its length, as Protobuf's writeDelimitedTo writes them."""
    return b"".join(encoder._VarintBytes(len(row)) + row for row in given)


def test_rows_that_fastavro_wrote(tmp_path: Path) -> None:
    file = tmp_path / "click.avsc"
    file.write_text(json.dumps(AVRO))

    def row(number: int) -> bytes:
        out = io.BytesIO()
        page = None if number % 2 else "/" * 200
        fastavro.schemaless_writer(out, fastavro.parse_schema(AVRO), {"uid": number, "page": page})
        return out.getvalue()

    declared = {"format": "avro", "writer_schema_file": file, "aliases": {"user_id": ["uid"]}, "rejected_to": "bad"}
    numbered = declared | {"writer_schema_file": {7: file}}
    with bowstring.StreamCoordinator(ingest={"clicks": declared, "numbered": numbered}) as coordinator:
        client = coordinator.client()
        for stream in ("clicks", "numbered"):
            client.create_stream(stream, schema=SCHEMA)
        assert post(coordinator, "clicks", "application/avro", row(1))[1] == {"rows": 1, "rejected": 0}
        several = delimited([row(2), row(3)[:-1], row(4)])
        answer = post(coordinator, "clicks", "application/avro; encoding=delimited", several)
        assert answer[1] == {"rows": 2, "rejected": 1}
        assert [row["user_id"] for row in rows(client, "clicks")] == [1, 2, 4]
        framed = delimited([b"\0\0\0\0\x07" + row(5), b"\0\0\0\0\x08" + row(6)])
        answer = post(coordinator, "numbered", "application/avro; encoding=delimited", framed)
        assert answer[1] == {"rows": 1, "rejected": 1}


def test_rows_that_protobuf_wrote(tmp_path: Path) -> None:
    file = descriptor_pb2.FileDescriptorProto(name="shop.proto", package="shop", syntax="proto3")
    click = file.message_type.add(name="Click")
    field = descriptor_pb2.FieldDescriptorProto
    click.field.add(name="uid", number=1, type=field.TYPE_INT64, label=field.LABEL_OPTIONAL)
    click.field.add(name="page", number=2, type=field.TYPE_STRING, label=field.LABEL_OPTIONAL)
    descriptors = tmp_path / "shop.pb"
    descriptors.write_bytes(descriptor_pb2.FileDescriptorSet(file=[file]).SerializeToString())
    pool = DescriptorPool()
    pool.Add(file)
    made = message_factory.GetMessageClass(pool.FindMessageTypeByName("shop.Click"))

    def row(number: int) -> bytes:
        return made(uid=number, page="/" * number).SerializeToString()

    declared: dict[str, Any] = {"format": "protobuf", "descriptors_file": str(descriptors), "message": "shop.Click"}
    declared |= {"aliases": {"user_id": ["uid"]}, "rejected_to": "bad"}
    with bowstring.StreamCoordinator(ingest={"clicks": declared}) as coordinator:
        client = coordinator.client()
        client.create_stream("clicks", schema=SCHEMA)
        assert post(coordinator, "clicks", "application/x-protobuf", row(1))[1] == {"rows": 1, "rejected": 0}
        several = delimited([row(300), b"\x08", row(2)])
        answer = post(coordinator, "clicks", "application/x-protobuf; encoding=delimited", several)
        assert answer[1] == {"rows": 2, "rejected": 1}
        assert [(row["user_id"], len(row["page"])) for row in rows(client, "clicks")] == [(1, 1), (300, 300), (2, 2)]


@pytest.mark.parametrize(
    ("declared", "words"),
    [
        ({"format": "xml"}, "xml"),
        ({"format": "json", "rejected": "t"}, "rejected_to"),
        ({}, "format"),
        ({"format": "json", "rejected_to": "s"}, "the stream itself"),
        ({"format": "avro"}, "writer_schema_file"),
        ({"format": "avro", "writer_schema_file": "/nosuch.avsc"}, "cannot be read"),
    ],
)
def test_what_cannot_be_declared_is_said_at_the_start(declared: dict[str, Any], words: str) -> None:
    with pytest.raises(bowstring.InvalidArgument, match=words):
        bowstring.StreamCoordinator(ingest={"s": declared})
