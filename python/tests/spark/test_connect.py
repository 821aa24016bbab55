"""Spark Connect: the same functions, where Spark allows it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path


def test_both_directions_work_through_spark_connect() -> None:
    program = Path(__file__).with_name("connect.py")
    done = subprocess.run([sys.executable, str(program)], capture_output=True, check=False, timeout=110, text=True)
    assert done.returncode == 0, done.stderr[-4000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["session"].startswith("pyspark.sql.connect")
    for sink in ("datasource", "foreach_batch"):
        # The rate source makes a micro-batch of 1000 values each time that it is asked.
        assert found[sink] == list(range(len(found[sink])))
        assert len(found[sink]) in (1000, 2000)
    assert found["reverse"] == list(range(100))
    assert "bowstring serve" in found["refused"]
