"""Every Python example runs as a process of its own and prints what it should."""

from __future__ import annotations

import getpass
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"

#: The example's file, with its arguments, and the last line of its output.
LAST_LINES = {
    "async_consumer.py": "rows read: [500, 500]",
    "dataframes.py": "datafusion, days 2 to 4: [('bow', 9), ('string', 18)]",
    "epochs.py": "total of epochs 1 and 2: 123",
    "ray_iterators.py": "read 80000 rows in 4 tasks, their sum is right: True",
    "shared_workers.py": "order 1234 after 10 deliveries: ValueError: an order without an amount",
    "kafka_palettes.py --images 160": (
        "160 palettes in the topic, each once, as computed from the files: True; "
        "the pool grew beyond 2 partitions and shrank: True"
    ),
    "lakehouse.py --format delta --flights 6000": (
        "6000 flights in the delta table, each once, as a batch job computes them: True"
    ),
    "lakehouse.py --format iceberg --flights 150000": (
        "150000 flights in the iceberg table, each once, as a batch job computes them: True"
    ),
    "exactly_once_sqlite.py": "batches: 2000, the sum is right: True",
    "flight_client.py": "read 3 rows of ['user', 'page']",
    "flow_fraud_rule.py": "cards [7, 99] are stolen; alerts and totals, each once, are those of a batch job: True",
    "flow_moving_average.py": "averages of 21660 windows, 3 with an outlier, as by a batch job: True",
    "flow_page_counts.py": "5 pages, the counts and what was late are those of a batch job: True",
    "flow_sensor_anomalies.py": "3 anomalies in 26115 reports, those of a batch job: True",
    "flow_website_traffic.py": "20 minutes of traffic, as a batch job has them: True",
    "python_to_spark.py": "500 warm readings since minute 50",
    "ray_clicks.py": "pages: 5, the counts are those of a plain count: True",
    "spark_exactly_once_sqlite.py": "batches: 48, the sum is right: True",
    "spark_to_python.py": "read 5000 rows, their sum is right: True",
    "train_while_spark_feeds.py": "9600 rows, each once: True; the model is that of a loop without bowstring: True",
}


# Two of them fetch a Spark, table formats and a Kafka broker the first time.
@pytest.mark.timeout(900)
@pytest.mark.parametrize("example", LAST_LINES)
def test_an_example_runs_prints_its_result_and_leaves_no_folder(example: str, tmp_path: Path) -> None:
    name, *arguments = example.split()
    # As a user starts it: without what the other tests have set.
    environment = {name: value for name, value in os.environ.items() if name != "PYSPARK_PYTHON"}
    # Not in tmp_path, which is too long for the sockets in it. What Ray keeps is its own affair.
    with tempfile.TemporaryDirectory() as temporary:
        done = subprocess.run(
            [sys.executable, str(EXAMPLES / name), *arguments],
            capture_output=True,
            check=False,
            cwd=tmp_path,
            env=environment | {"TMPDIR": temporary, "RAY_TMPDIR": tempfile.gettempdir()},
            text=True,
            timeout=880,
        )
        # But for the user's folder of Unix sockets, which all coordinators share, and torch's cache.
        shared = {f"bowstring-{os.getuid()}", f"torchinductor_{getpass.getuser()}"}
        left = {path.name for path in Path(temporary).iterdir()} - shared
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    assert done.stdout.splitlines()[-1] == LAST_LINES[example]
    assert not left


def test_no_example_is_left_out() -> None:
    # The demo is a make target of its own, which CI runs.
    assert {path.name for path in EXAMPLES.glob("*.py")} == {*(example.split()[0] for example in LAST_LINES), "demo.py"}
