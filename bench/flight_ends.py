"""Both ends of a relay as stock pyarrow.flight clients. Usage: flight_ends append|read URL TARGET ROWS BATCHES.

TARGET is the descriptor's path, or the ticket.
"""

from __future__ import annotations

import sys

import pyarrow.flight as flight

from bench.children import say_done, wait_for_go
from bench.load import make_batch


def append(url: str, stream: str, rows: int, batches: int) -> None:
    client = flight.connect(url)
    batch = make_batch(rows)
    wait_for_go()
    writer, _ = client.do_put(flight.FlightDescriptor.for_path(stream), batch.schema)
    for _ in range(batches):
        writer.write_batch(batch)
    writer.close()


def read(url: str, ticket: str, rows: int, batches: int) -> None:
    client = flight.connect(url)
    wait_for_go()
    seen = 0
    for chunk in client.do_get(flight.Ticket(ticket.encode())):
        seen += chunk.data.num_rows
        if seen == rows * batches:
            break
    assert seen == rows * batches, f"{seen} of {rows * batches} rows came"


if __name__ == "__main__":
    end, url, target, rows, batches = sys.argv[1:]
    {"append": append, "read": read}[end](url, target, int(rows), int(batches))
    say_done()
