"""The JVM connector on executors that are processes of their own: what only they can show."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path


def test_a_stage_that_is_run_again_since_an_executor_died_counts_once(tmp_path: Path) -> None:
    command = [sys.executable, str(Path(__file__).with_name("jvm_cluster.py")), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, check=False, timeout=230, text=True)
    assert done.returncode == 0, done.stderr[-4000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found.pop("attempts") > 0, "Spark has run a stage again"
    assert found == {"consumed": True, "most": 1, "read": True}
