"""Both ends of a relay as stock pyarrow.flight clients. Usage: flight_ends append|read URL TARGET ROWS BATCHES.

TARGET is the descriptor's path, or the ticket; if the ticket names a subscription, the reader acks.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import pyarrow.flight as flight

from bench.children import say_done, wait_for_go
from bench.load import make_batch

#: Batches between two acks, of the 64 that the relay may hold.
ACK_EVERY = 16


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
    reads = json.loads(ticket) if ticket.startswith("{") else {}
    for number, chunk in enumerate(client.do_get(flight.Ticket(ticket.encode())), start=1):
        seen += chunk.data.num_rows
        if "subscription" in reads and number % ACK_EVERY == 0:
            ack(client, reads, number)
        if seen == rows * batches:
            break
    assert seen == rows * batches, f"{seen} of {rows * batches} rows came"


def ack(client: flight.FlightClient, reads: dict[str, Any], offset: int) -> None:
    """Done with everything before this offset; the stream has one partition, so batches have come in its order."""
    done = {"stream": reads["stream"], "subscription": reads["subscription"], "offsets": {"0": offset}}
    list(client.do_action(flight.Action("ack", json.dumps(done).encode())))


if __name__ == "__main__":
    end, url, target, rows, batches = sys.argv[1:]
    {"append": append, "read": read}[end](url, target, int(rows), int(batches))
    say_done()
