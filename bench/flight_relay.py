"""The peer: a server as one writes it with pyarrow.flight, which is Arrow's C++ Flight underneath.

A DoPut handler fills a bounded buffer, a DoGet handler empties it; nothing is acknowledged, staged or counted. What is
put to "drop" is dropped; a ticket that is a case is answered with batches that were made before.
"""

from __future__ import annotations

import queue
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.flight as flight

from bench.cases import Case, make_batch

# As many as bowstring holds by default.
BUFFERED_BATCHES_MAX = 64


class Relay(flight.FlightServerBase):
    """One stream from one producer to one consumer."""

    def __init__(self) -> None:
        super().__init__("grpc://127.0.0.1:0")
        self.buffer: queue.Queue[pa.RecordBatch | None] = queue.Queue(BUFFERED_BATCHES_MAX)
        self.schema: queue.Queue[pa.Schema] = queue.Queue(1)
        self.made: list[pa.RecordBatch] = []

    def do_put(
        self,
        context: flight.ServerCallContext,
        descriptor: flight.FlightDescriptor,
        reader: flight.MetadataRecordBatchReader,
        writer: flight.FlightMetadataWriter,
    ) -> None:
        if descriptor.path == [b"drop"]:
            for _ in reader:
                pass
            return
        self.schema.put(reader.schema)
        for chunk in reader:
            self.buffer.put(chunk.data)
        self.buffer.put(None)

    def do_get(self, context: flight.ServerCallContext, ticket: flight.Ticket) -> flight.FlightDataStream:
        # Faster than a GeneratorStream: C++ asks Python for a batch and for nothing else.
        if ticket.ticket.startswith(b"{"):
            case = Case.of(ticket.ticket.decode())
            return flight.RecordBatchStream(pa.RecordBatchReader.from_batches(self.made[0].schema, self.prepared(case)))
        batches = iter(self.buffer.get, None)
        return flight.RecordBatchStream(pa.RecordBatchReader.from_batches(self.schema.get(), batches))

    def do_action(self, context: flight.ServerCallContext, action: flight.Action) -> Iterator[bytes]:
        # Distinct ones: nothing shall come from a cache that a real buffer would not be in.
        case = Case.of(action.body.to_pybytes().decode())
        self.made = [make_batch(case) for _ in range(case.prepared)]
        return iter([b"made"])

    def prepared(self, case: Case) -> Iterator[pa.RecordBatch]:
        """What was made, again and again until it is enough."""
        return (self.made[number % len(self.made)] for number in range(case.batches))


if __name__ == "__main__":
    relay = Relay()
    print(f"grpc://127.0.0.1:{relay.port}", flush=True)
    relay.serve()
