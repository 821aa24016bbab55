"""The peer: a relay as one writes it with pyarrow.flight, which is Arrow's C++ Flight underneath.

A DoPut handler fills a bounded buffer, a DoGet handler empties it; nothing is acknowledged, staged or counted.
"""

from __future__ import annotations

import queue

import pyarrow as pa
import pyarrow.flight as flight

# As many as bowstring holds by default.
BUFFERED_BATCHES_MAX = 64


class Relay(flight.FlightServerBase):
    """One stream from one producer to one consumer."""

    def __init__(self) -> None:
        super().__init__("grpc://127.0.0.1:0")
        self.buffer: queue.Queue[pa.RecordBatch | None] = queue.Queue(BUFFERED_BATCHES_MAX)
        self.schema: queue.Queue[pa.Schema] = queue.Queue(1)

    def do_put(
        self,
        context: flight.ServerCallContext,
        descriptor: flight.FlightDescriptor,
        reader: flight.MetadataRecordBatchReader,
        writer: flight.FlightMetadataWriter,
    ) -> None:
        self.schema.put(reader.schema)
        for chunk in reader:
            self.buffer.put(chunk.data)
        self.buffer.put(None)

    def do_get(self, context: flight.ServerCallContext, ticket: flight.Ticket) -> flight.FlightDataStream:
        # Faster than a GeneratorStream: C++ asks Python for a batch and for nothing else.
        batches = iter(self.buffer.get, None)
        return flight.RecordBatchStream(pa.RecordBatchReader.from_batches(self.schema.get(), batches))


if __name__ == "__main__":
    relay = Relay()
    print(f"grpc://127.0.0.1:{relay.port}", flush=True)
    relay.serve()
