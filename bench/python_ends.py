"""Both ends in bowstring's Python. Usage: python_ends append|read|drain|ages URL STREAM CASE.

`drain` reads until the stream ends, however much that is; `ages` reads as many rows as the case has batches, each of
which says in `made_at` when it was made.
"""

from __future__ import annotations

import sys

import bowstring
from bench.cases import Case, make_batch
from bench.ends import appends, take, wait_for_go


def append(url: str, stream: str, case: Case) -> None:
    batch = make_batch(case)
    with bowstring.connect(url).producer(stream, schema=batch.schema) as producer:
        for _ in range(case.filled):
            producer.append(batch)
        producer.flush()
        meter = wait_for_go()
        for one in appends(case, batch, meter):
            producer.append(one)
        producer.complete()
        meter.say_report()


def read(url: str, stream: str, case: Case) -> None:
    nbytes = make_batch(case).nbytes
    if case.work == "get":
        reread(url, stream, case, nbytes)
        return
    with bowstring.StreamingIterator(url, stream, subscription="bench") as iterator:
        meter = wait_for_go()
        for batch in iterator:
            take(case, batch, meter, nbytes)
        assert meter.batches == case.batches, f"{meter.batches} of {case.batches} batches came"
        meter.say_report()


def reread(url: str, stream: str, case: Case, nbytes: int) -> None:
    """What is there, from its beginning to its end, until it is enough."""
    meter = wait_for_go()
    while meter.batches < case.batches:
        with bowstring.StreamingIterator(url, stream, subscription=None, follow=False) as iterator:
            for batch in iterator:
                if take(case, batch, meter, nbytes):
                    break
    meter.say_report()


def drain(url: str, stream: str, _case: Case) -> None:
    with bowstring.StreamingIterator(url, stream, subscription="bench") as iterator:
        meter = wait_for_go()
        for batch in iterator:
            meter.count(batch)
        meter.say_report()


def ages(url: str, stream: str, case: Case) -> None:
    with bowstring.StreamingIterator(url, stream, subscription="bench") as iterator:
        meter = wait_for_go()
        rows = 0
        for batch in iterator:
            meter.rows_arrived(batch)
            rows += batch.num_rows
            if rows >= case.batches:
                break
        assert rows == case.batches, f"{rows} of {case.batches} rows came"
        meter.say_report()


if __name__ == "__main__":
    end, url, stream, case = sys.argv[1:]
    {"append": append, "read": read, "drain": drain, "ages": ages}[end](url, stream, Case.of(case))
