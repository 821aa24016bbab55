"""Rows in JSON become batches of a declared schema; bad ones are set aside with the reason."""

import datetime
import json
import random
import zoneinfo

import pyarrow as pa
import pytest

import bowstring

SCHEMA = pa.schema(
    [
        pa.field("user_id", pa.int64(), nullable=False),
        ("page", pa.string()),
        ("at", pa.timestamp("us", "+00:00")),
        ("tags", pa.list_(pa.string())),
        ("price", pa.decimal128(10, 2)),
    ]
)


def rows(count: int, seed: int) -> tuple[list[bytes], list[dict]]:
    """Good rows and bad ones, mixed; and what the good ones say."""
    chance = random.Random(seed)
    made, good = [], []
    for number in range(count):
        row = {"user_id": number, "page": f"/p/{number}é", "tags": ["a", None], "price": 1.25}
        row["at"] = "2026-01-02T03:04:05.000006Z"
        bad = chance.random() < 0.2
        if bad:
            made.append(
                chance.choice(
                    [
                        b"{",
                        b"",
                        b"[1]",
                        json.dumps(row | {"user_id": "7"}).encode(),
                        json.dumps(row | {"user_id": None}).encode(),
                        json.dumps(row | {"page": 4}).encode(),
                        json.dumps(row).encode() * 2,
                        b'{"user_id": 1, "page": "\xff"}',
                    ]
                )
            )
        else:
            made.append(json.dumps(row).encode())
            good.append(row)
    return made, good


@pytest.mark.parametrize("type_", [pa.binary(), pa.large_binary(), pa.binary_view()])
def test_good_rows_are_kept_and_bad_ones_set_aside(type_):
    given, good = rows(10_000, seed=3)
    column = pa.array(given, type_)
    decoded = bowstring.RowDecoder(SCHEMA).decode(column)
    assert decoded.batch.schema == SCHEMA
    assert decoded.batch.column("user_id").to_pylist() == [row["user_id"] for row in good]
    assert decoded.batch.column("page").to_pylist() == [row["page"] for row in good]
    assert decoded.batch.column("tags").to_pylist() == [row["tags"] for row in good]
    assert [str(price) for price in decoded.batch.column("price").to_pylist()] == ["1.25"] * len(good)
    assert {at.microsecond for at in decoded.batch.column("at").to_pylist()} == {6}
    # Each is one or the other, and the bad ones are there whole, with the reason.
    indices = decoded.kept.to_pylist() + decoded.rejected.column("index").to_pylist()
    assert sorted(indices) == list(range(len(given)))
    assert decoded.rejected.num_rows > 1_000
    for bad in decoded.rejected.to_pylist():
        assert bad["row"] == given[bad["index"]]
        assert bad["reason"]


def test_rows_of_text_and_in_several_chunks():
    schema = pa.schema({"x": pa.int32()})
    decoder = bowstring.RowDecoder(schema)
    for type_ in (pa.string(), pa.large_string(), pa.string_view()):
        decoded = decoder.decode(pa.array(['{"x": 1}', None, '{"x": 1.5}'], type_))
        assert decoded.batch.to_pylist() == [{"x": 1}]
        assert decoded.rejected.column("row").to_pylist() == [None, b'{"x": 1.5}']
    decoded = decoder.decode(pa.chunked_array([[b'{"x": 1}'], [b"-"], []], pa.binary()))
    assert (decoded.batch.to_pylist(), decoded.kept.to_pylist()) == ([{"x": 1}], [0])
    empty = decoder.decode([])
    assert (empty.batch.num_rows, empty.rejected.num_rows) == (0, 0)
    assert (empty.batch.schema, empty.rejected.schema) == (schema, decoded.rejected.schema)


def test_half_a_character_is_a_bad_row():
    decoded = bowstring.RowDecoder(pa.schema({"x": pa.string()})).decode(
        ['{"x": "\ud800"}', '{"x": "\\ud800"}', '{"x": "é"}']
    )
    assert decoded.batch.to_pylist() == [{"x": "é"}]
    assert decoded.rejected["row"].to_pylist() == [b'{"x": "\xed\xa0\x80"}', b'{"x": "\\ud800"}']


def test_times_are_those_of_their_zone():
    decoder = bowstring.RowDecoder(pa.schema({"at": pa.timestamp("us", "UTC"), "day": pa.date32()}))
    decoded = decoder.decode(
        ['{"at": "2026-01-02T03:04:05+02:00", "day": "2026-01-02"}', '{"day": "2026-01-02T03:00:00Z"}']
    )
    assert decoded.batch.to_pylist() == [
        {
            "at": datetime.datetime(2026, 1, 2, 1, 4, 5, tzinfo=zoneinfo.ZoneInfo("UTC")),
            "day": datetime.date(2026, 1, 2),
        }
    ]


def test_aliases_and_conversions_make_two_sources_one():
    decoder = bowstring.RowDecoder(
        pa.schema({"user_id": pa.int64(), "page": pa.string()}),
        aliases={"user_id": ["uid", "userId"], "page": ["url"]},
        lenient=True,
        refuse_unknown=True,
    )
    decoded = decoder.decode(
        ['{"user_id": 1, "page": "/a"}', '{"uid": "2", "url": 7}', '{"userId": null, "uid": 3}', '{"other": 1}']
    )
    assert decoded.batch.to_pylist() == [
        {"user_id": 1, "page": "/a"},
        {"user_id": 2, "page": "7"},
        {"user_id": 3, "page": None},
    ]
    assert "other" in decoded.rejected.column("reason")[0].as_py()


def test_what_cannot_be_decoded_is_said_when_the_decoder_is_made():
    schema = pa.schema({"x": pa.int64()})
    with pytest.raises(bowstring.InvalidArgument, match="which the schema does not have"):
        bowstring.RowDecoder(schema, aliases={"y": ["z"]})
    with pytest.raises(bowstring.InvalidArgument, match=r"give a list: \['a'\]"):
        bowstring.RowDecoder(schema, aliases={"x": "a"})
    with pytest.raises(bowstring.InvalidArgument, match="zone"):
        bowstring.RowDecoder(pa.schema({"at": pa.timestamp("us", "Europe/Berlin")}))
    with pytest.raises(bowstring.InvalidArgument, match="row_bytes_max"):
        bowstring.RowDecoder(schema, row_bytes_max=0)
    with pytest.raises(bowstring.InvalidArgument, match="Int64"):
        bowstring.RowDecoder(schema).decode(pa.array([1]))
    large = bowstring.RowDecoder(schema, row_bytes_max=10).decode([b'{"x": 1}', b'{"x":  123}'])
    assert large.kept.to_pylist() == [0]
    assert "11 bytes" in large.rejected.column("reason")[0].as_py()


def test_bad_rows_of_a_stream_go_to_a_stream_of_dead_letters():
    """From a column of bytes, as Kafka's readers have it, through two streams; nothing is lost."""
    given, good = rows(1_000, seed=5)
    with bowstring.StreamCoordinator() as coordinator:
        client = coordinator.client()
        with client.producer("raw") as raw:
            for start in range(0, len(given), 100):
                raw.append(pa.record_batch({"value": pa.array(given[start : start + 100], pa.binary())}))
            raw.complete()
        decoder = bowstring.RowDecoder(SCHEMA)
        with client.producer("clicks") as clicks, client.producer("clicks.bad") as bad:
            for batch in client.iterator("raw"):
                decoded = decoder.decode(batch["value"])
                clicks.append(decoded.batch)
                bad.append(decoded.rejected)
            clicks.complete()
            bad.complete()
        read = [row for batch in client.iterator("clicks") for row in batch["user_id"].to_pylist()]
        letters = [row for batch in client.iterator("clicks.bad") for row in batch["row"].to_pylist()]
    assert read == [row["user_id"] for row in good]
    assert len(read) + len(letters) == len(given)
    assert set(letters) <= set(given)
