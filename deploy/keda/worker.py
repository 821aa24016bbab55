"""What a pod of the Deployment runs: it works until the stream ends, or until Kubernetes ends the pod.

Kubernetes sends SIGTERM and waits for `terminationGracePeriodSeconds`: the batch at hand is finished and acked by then,
or goes to another pod. `python worker.py URL STREAM SUBSCRIPTION OUTPUT`.
"""

import signal
import sys

import pyarrow as pa

import bowstring
from bowstring.working import Worker


def work(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Your work; what it returns is in the output stream exactly once."""
    return batch


if __name__ == "__main__":
    url, stream, subscription, output = sys.argv[1:]
    worker = Worker(bowstring.connect(url), stream, work, subscription=subscription, output=output)
    signal.signal(signal.SIGTERM, lambda *_: worker.stop())
    has_ended = worker.run()
    print(f"{worker.done().batches} batches, {'the stream has ended' if has_ended else 'stopped'}")
