"""Spark Connect: the same functions, where Spark allows it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path


def test_both_directions_work_through_spark_connect() -> None:
    program = Path(__file__).with_name("connect.py")
    done = subprocess.run([sys.executable, str(program)], capture_output=True, check=False, timeout=200, text=True)
    assert done.returncode == 0, done.stderr[-4000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["session"].startswith("pyspark.sql.connect")
    for jvm in (False, True):
        for sink in (f"datasource {jvm}", f"foreach_batch {jvm}"):
            # The rate source makes a micro-batch of 1000 values each time that it is asked.
            assert found[sink] == list(range(len(found[sink])))
            assert len(found[sink]) in (1000, 2000)
        assert found[f"reverse {jvm}"] == list(range(100))
    assert "bowstring serve" in found["refused"]
