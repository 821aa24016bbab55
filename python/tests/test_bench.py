"""`bowstring bench` from the wheel: it starts itself, by the script that pip has installed."""

import json
import subprocess
import sys


def test_the_wheels_command_starts_itself_as_coordinator_and_ends():
    arguments = ["bench", "relay", "--batch-bytes", "64KiB", "--bytes", "1MiB", "--rounds", "1", "--json", "-"]
    command = [sys.executable, "-m", "bowstring", *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=60)
    (case,) = json.loads(done.stdout)["cases"]
    (round_,) = case["rounds"]
    assert (round_["batches"], round_["bytes"]) == (16, 1 << 20)
    assert round_["cpu_s_per_gb"]["coordinator"] > 0
