"""Rows of other formats become batches of a declared schema."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from bowstring import _native
from bowstring.errors import InvalidArgument

if TYPE_CHECKING:
    from typing_extensions import Self

#: Most bytes of one row, unless said otherwise.
ROW_BYTES_MAX = 16 << 20


@dataclasses.dataclass(frozen=True, slots=True)
class Decoded:
    """What became of the rows of one call: each is either kept or rejected."""

    #: The good rows in their order, of the declared schema.
    batch: pa.RecordBatch
    #: For each row of the batch, its index among those that were given: int64, ascending.
    kept: pa.Int64Array
    #: The bad rows: ``index`` (int64, ascending), ``reason`` (string), and the ``row`` itself (large_binary). The same
    #: schema each time, so that it can be appended to a stream of dead letters as it is.
    rejected: pa.RecordBatch


class RowDecoder:
    """Makes rows of JSON batches of one schema; by :meth:`avro` rows of Avro, by :meth:`protobuf` rows of Protobuf.

    Bad rows are set aside with the reason, the rest goes on.

    >>> decoder = bowstring.RowDecoder(pa.schema({"user_id": pa.int64()}), aliases={"user_id": ["uid"]})
    >>> decoded = decoder.decode([b'{"user_id": 1}', b'{"uid": 2}', b'{"uid": "?"}'])
    >>> decoded.batch["user_id"].to_pylist(), decoded.rejected["index"].to_pylist()
    ([1, 2], [2])

    It keeps nothing between calls; threads may share it, and it decodes without the GIL.
    """

    def __init__(
        self,
        schema: pa.Schema,
        *,
        aliases: Mapping[str, Sequence[str]] | None = None,
        lenient: bool = False,
        refuse_unknown: bool = False,
        row_bytes_max: int = ROW_BYTES_MAX,
    ) -> None:
        """A decoder of JSON to batches of ``schema``.

        Each row is one object in UTF-8. In it bytes are hexadecimal text; times are text, or numbers of the column's
        unit.

        :param aliases: of columns at the top, other names that they have in rows. Where a row has several of a
            column's names, its value is the first that is not null, the column's own name before the others.
        :param lenient: text is taken for a column of numbers, and numbers and booleans for one of text. By default
            such a row is bad.
        :param refuse_unknown: a row with a field at the top that is neither a column nor an alias is bad. By default
            the field is ignored.
        :param row_bytes_max: a larger row is bad.
        :raises InvalidArgument: a name is ambiguous, an alias is of no column, or JSON cannot have a column's type.
        """
        self._open(schema, aliases, lenient, refuse_unknown, row_bytes_max)

    @classmethod
    def avro(
        cls,
        schema: pa.Schema,
        writer_schema: str | Sequence[str] | Mapping[int, str],
        *,
        aliases: Mapping[str, Sequence[str]] | None = None,
        lenient: bool = False,
        refuse_unknown: bool = False,
        row_bytes_max: int = ROW_BYTES_MAX,
    ) -> Self:
        """A decoder of Avro to batches of ``schema``: each row is one record in binary.

        :param writer_schema: what the rows were written with, as JSON. One text: rows are records without a header,
            all of this schema. Several texts: Avro's single-object encoding, whose header has a schema's fingerprint.
            A mapping: as Confluent's serializers write, with a header that has a schema's number in the registry. Rows
            of a schema that is not given are bad.
        :param aliases: as of JSON.
        :param lenient: text is taken for a column of numbers, and numbers and booleans for one of text; bytes for
            text, if they are UTF-8, and text for bytes. By default such a schema is refused.
        :param refuse_unknown: rows whose schema has a field at the top that is neither a column nor an alias are bad.
            By default the field is ignored.
        :param row_bytes_max: a larger row is bad.
        :raises InvalidArgument: a name is ambiguous, an alias is of no column, a writer's schema is none, or has for a
            column what it cannot hold.
        """
        if not writer_schema:
            raise InvalidArgument("writer_schema has no schema; give those that rows were written with")
        decoder = cls.__new__(cls)
        decoder._open(schema, aliases, lenient, refuse_unknown, row_bytes_max, _writers(writer_schema))
        return decoder

    @classmethod
    def protobuf(
        cls,
        schema: pa.Schema,
        descriptors: bytes,
        message: str,
        *,
        confluent: bool = False,
        aliases: Mapping[str, Sequence[str]] | None = None,
        lenient: bool = False,
        refuse_unknown: bool = False,
        row_bytes_max: int = ROW_BYTES_MAX,
    ) -> Self:
        """A decoder of Protobuf to batches of ``schema``: each row is one message.

        :param descriptors: a ``FileDescriptorSet`` with all that the message needs, as ``protoc --include_imports
            --descriptor_set_out`` writes it.
        :param message: the message's full name: ``shop.Click``.
        :param confluent: rows have the header of Confluent's serializers. The schema's number in it is not looked at:
            fields are known by their own numbers. Rows of another message of the same file are bad.
        :param aliases: as of JSON.
        :param lenient: as of Avro.
        :param refuse_unknown: a row with a field at the top that is neither a column nor an alias is bad. By default
            the field is ignored.
        :param row_bytes_max: a larger row is bad.
        :raises InvalidArgument: a name is ambiguous, an alias is of no column, the descriptors lack the message or what
            they import, or the message has for a column what it cannot hold.
        """
        decoder = cls.__new__(cls)
        decoder._open(schema, aliases, lenient, refuse_unknown, row_bytes_max, (descriptors, message, confluent))
        return decoder

    def _open(
        self,
        schema: pa.Schema,
        aliases: Mapping[str, Sequence[str]] | None,
        lenient: bool,
        refuse_unknown: bool,
        row_bytes_max: int,
        binary: str | list[str] | dict[int, str] | tuple[bytes, str, bool] | None = None,
    ) -> None:
        if row_bytes_max < 1:
            raise InvalidArgument(f"row_bytes_max is {row_bytes_max}; it is at least 1 byte")
        for column, others in (aliases or {}).items():
            if isinstance(others, str):
                raise InvalidArgument(f"aliases of {column!r} are the text {others!r}; give a list: [{others!r}]")
        names = {column: list(others) for column, others in (aliases or {}).items()}
        self._schema = schema
        self._native = _native.RowDecoder(schema, names, lenient, refuse_unknown, row_bytes_max, binary)

    @property
    def schema(self) -> pa.Schema:
        """The schema of all batches."""
        return self._schema

    def decode(self, rows: pa.Array | pa.ChunkedArray | Sequence[bytes | str | None]) -> Decoded:
        """Decodes rows: a column of text or bytes, or a sequence of ``bytes`` or ``str``. One that is null is bad.

        Never raises for what is in a row.

        :raises InvalidArgument: a column of another type; more than 1,048,576 rows or 1 GiB in one call.
        """
        column = _column(rows)
        batch, kept, rejected = self._native.decode(pa.record_batch([column], names=["row"]))
        bad = _only(rejected)
        # Rows of views cannot be taken; text becomes large before it becomes bytes.
        views = pa.types.is_string_view(column.type) or pa.types.is_binary_view(column.type)
        raw = (column.cast(pa.large_binary()) if views else column).take(bad.column("index"))
        raw = raw.cast(pa.large_string() if pa.types.is_string(raw.type) else raw.type).cast(pa.large_binary())
        return Decoded(_only(batch), _only(kept).column("index"), bad.append_column("row", raw))


def _writers(schemas: str | Sequence[str] | Mapping[int, str]) -> str | list[str] | dict[int, str]:
    if isinstance(schemas, str):
        return schemas
    if not isinstance(schemas, Mapping):
        return list(schemas)
    if any(not 0 <= number < 1 << 32 for number in schemas):
        raise InvalidArgument("writer_schema has a number that no registry gives; they have 32 bits and no sign")
    return dict(schemas)


def _column(rows: Any) -> pa.Array:
    if isinstance(rows, pa.ChunkedArray):
        return rows.combine_chunks()
    if isinstance(rows, pa.Array):
        return rows
    # Half of a surrogate pair is no character: such a row is bad, and is set aside as what Python makes of it.
    encoded = [row.encode(errors="surrogatepass") if isinstance(row, str) else row for row in rows]
    return pa.array(encoded, pa.large_binary())


def _only(batches: _native.Batches) -> pa.RecordBatch:
    return pa.RecordBatchReader.from_stream(batches).read_next_batch()
