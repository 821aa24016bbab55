"""Both ends as stock pyarrow.flight clients. Usage: flight_ends append|read URL TARGET CASE.

TARGET is the descriptor's path, or the ticket; if the ticket names a subscription, the reader acks.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import pyarrow.flight as flight

from bench.cases import Case, make_batch
from bench.ends import appends, take, wait_for_go

#: Batches between two acks, of the 64 that the relay may hold.
ACK_EVERY = 16


def append(url: str, stream: str, case: Case) -> None:
    client = flight.connect(url)
    batch = make_batch(case)
    if case.filled:
        writer, _ = client.do_put(flight.FlightDescriptor.for_path(stream), batch.schema)
        for _ in range(case.filled):
            writer.write_batch(batch)
        writer.close()
    meter = wait_for_go()
    writer, _ = client.do_put(flight.FlightDescriptor.for_path(stream), batch.schema)
    for one in appends(case, batch, meter):
        writer.write_batch(one)
    writer.close()
    meter.say_report()


def read(url: str, ticket: str, case: Case) -> None:
    client = flight.connect(url)
    expected = make_batch(case)
    # pyarrow counts anew at each look, which takes longer than the rest of the loop.
    rows, nbytes = expected.num_rows, expected.nbytes
    reads = json.loads(ticket) if ticket.startswith("{") else {}
    meter = wait_for_go()
    while meter.batches < case.batches:
        # Where what is there is less than what is to be read, it is read again.
        before = meter.batches
        for number, chunk in enumerate(client.do_get(flight.Ticket(ticket.encode())), start=1):
            assert chunk.data.num_rows == rows, "a batch came in pieces"
            last = take(case, chunk.data, meter, nbytes)
            if "subscription" in reads and number % ACK_EVERY == 0:
                ack(client, reads, number)
            if last:
                break
        assert meter.batches > before, f"{meter.batches} of {case.batches} batches came"
    meter.say_report()


def ack(client: flight.FlightClient, reads: dict[str, Any], offset: int) -> None:
    """Done with everything before this offset; the stream has one partition, so batches have come in its order."""
    done = {"stream": reads["stream"], "subscription": reads["subscription"], "offsets": {"0": offset}}
    list(client.do_action(flight.Action("ack", json.dumps(done).encode())))


if __name__ == "__main__":
    end, url, target, case = sys.argv[1:]
    {"append": append, "read": read}[end](url, target, Case.of(case))
