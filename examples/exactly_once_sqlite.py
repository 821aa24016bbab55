"""A consumer that stores its result and the offset in one transaction: exactly once, whoever dies and whenever.

The consumer and the coordinator are processes that are killed (kill -9) while they work, and started again.
"""

import json
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time

import pyarrow as pa
import pyarrow.compute

import bowstring

BATCHES, ROWS = 2000, 10


def consume(url: str, path: str) -> None:
    """Sums up what there is in stream `numbers`, a transaction per batch."""
    database = sqlite3.connect(path, isolation_level=None)
    database.execute("create table if not exists result (total integer, batches integer, next_offset integer)")
    if database.execute("select count(*) from result").fetchone() == (0,):
        database.execute("insert into result values (0, 0, 0)")
    for delivered in bowstring.StreamingIterator(url, "numbers", subscription="sqlite").batches_with_offsets():
        (next_offset,) = database.execute("select next_offset from result").fetchone()
        if delivered.offset < next_offset:
            continue  # it was stored, and the ack got lost
        database.execute(
            "update result set total = total + ?, batches = batches + 1, next_offset = ?",
            (pa.compute.sum(delivered.batch["number"]).as_py(), delivered.offset + 1),
        )


def produce(url: str) -> None:
    with bowstring.connect(url).producer("numbers", producer_id="example") as producer:
        for number in range(BATCHES):
            producer.append(pa.table({"number": [number] * ROWS}))
            time.sleep(0.003)
        producer.complete()  # waits until all is confirmed, over restarts of the coordinator


def serve(data_dir: str, port: str = "0") -> tuple[subprocess.Popen[str], str]:
    command = [sys.executable, "-m", "bowstring", "serve", "--data-dir", data_dir, "--http", "off", "--unix", "off"]
    process = subprocess.Popen([*command, "--listen", f"127.0.0.1:{port}"], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, json.loads(process.stdout.readline())["listen"]


def main(directory: str) -> None:
    data_dir, path = f"{directory}/data", f"{directory}/result.sqlite"
    coordinator, address = serve(data_dir)
    url = f"grpc://{address}"
    bowstring.connect(url).create_stream("numbers")
    producer = threading.Thread(target=produce, args=(url,))
    producer.start()
    kills = 0
    consumer = subprocess.Popen([sys.executable, __file__, url, path])
    while consumer.poll() is None and kills < 6:
        time.sleep(1)
        kills += 1
        if kills % 2:
            consumer.kill()
            consumer.wait()
            consumer = subprocess.Popen([sys.executable, __file__, url, path])
        else:
            coordinator.kill()
            coordinator.wait()
            coordinator, _ = serve(data_dir, address.split(":")[1])
    assert consumer.wait() == 0  # it has met the end of the stream
    producer.join()
    total, batches, _ = sqlite3.connect(path).execute("select * from result").fetchone()
    coordinator.terminate()
    coordinator.wait()
    print(f"killed {kills} times")
    print(f"batches: {batches}, the sum is right: {total == ROWS * sum(range(BATCHES))}")


if len(sys.argv) > 1:
    consume(*sys.argv[1:])
else:
    with tempfile.TemporaryDirectory() as temporary:
        main(temporary)
