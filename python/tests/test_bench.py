"""`bowstring bench` from the wheel starts itself, by the script that pip has installed; what `make bench` counts."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

# The benchmarks' programs are there; nothing here starts one.
os.environ.setdefault("CARGO_TARGET_DIR", "target")

from bench.__main__ import chosen
from bench.cases import Case
from bench.data_folder import data_folder, file_system
from bench.durable import MUCH, QUICK, SMOKE, ingest, relays
from bench.figures import Figures, figures
from bench.report import Series, print_slower, print_table


def test_the_wheels_command_starts_itself_as_coordinator_and_ends():
    arguments = ["bench", "relay", "--batch-bytes", "64KiB", "--bytes", "1MiB", "--rounds", "1", "--json", "-"]
    command = [sys.executable, "-m", "bowstring", *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=60)
    (case,) = json.loads(done.stdout)["cases"]
    (round_,) = case["rounds"]
    assert (round_["batches"], round_["bytes"]) == (16, 1 << 20)
    assert round_["cpu_s_per_gb"]["coordinator"] > 0


def test_durable_streams_are_measured_unless_somebody_chooses():
    assert "durable" in chosen([])
    assert "durables" not in chosen([])
    assert chosen(["durables", "relay", "durables"]) == ["durables", "relay"]
    with pytest.raises(SystemExit, match=r"no such part: durabel; there are: core, all, .*durable"):
        chosen(["durabel"])


def test_every_amount_has_batches_of_three_sizes_and_whole_files():
    for amount in (SMOKE, QUICK, MUCH):
        sizes = [case.batch_bytes for case in relays(amount).cases]
        assert sizes == [1 << 10, 64 << 10, 4 << 20]
        assert all(case.batches >= 2 for case in relays(amount).cases)
        assert ingest(amount).batches * ingest(amount).batch_bytes == amount.ingest_bytes


def test_files_lie_on_a_disk_and_are_gone_afterwards(tmp_path, monkeypatch):
    monkeypatch.setenv("BENCH_DATA_DIR", str(tmp_path))
    monkeypatch.setattr("bench.data_folder.file_system", lambda _: "ext4")
    with data_folder() as folder:
        assert folder.parent == tmp_path
        (folder / "file").write_text("there")
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr("bench.data_folder.file_system", lambda _: "tmpfs")
    with pytest.raises(RuntimeError, match=r"is a tmpfs, which is no disk; .*BENCH_DATA_DIR"), data_folder():
        pass


def test_the_innermost_mount_says_what_a_folder_lies_on(tmp_path):
    mounts = tmp_path / "mounts"
    mounts.write_text("/dev/vda / ext4 rw 0 0\nnone /dev/shm tmpfs rw 0 0\nnone /dev devtmpfs rw 0 0\n")
    kinds = [file_system(Path(path), mounts) for path in ("/dev/shm/x", "/dev/x", "/data")]
    assert kinds == ["tmpfs", "devtmpfs", "ext4"]
    assert file_system(tmp_path, tmp_path / "none") == ""


def end(begun_ns, ended_ns, batches, latency=None):
    report = {"begun_ns": begun_ns, "ended_ns": ended_ns, "cpu_seconds": 1.0, "batches": batches, "bytes": 1000}
    return report if latency is None else report | {"latency": latency}


def test_a_producer_that_waits_for_answers_has_latencies_too():
    shown = figures(end(0, 2_000_000_000, 4, [[1000, 3], [9000, 1]]), [], None)
    assert (shown.batches_per_s, shown.latency["p50"], shown.latency["max"]) == (2.0, 1.0, 9.0)
    assert figures(end(0, 1, 1), [end(0, 1, 1, [])], 1.0).latency is None


def test_a_series_of_answers_shows_the_median_wait_and_no_cpu_that_nobody_measured(capsys):
    shown = Figures(1.0, 10, 1000, latency={"p50": 7.0, "p99": 8.0, "p99.9": 9.0, "max": 9.5})
    print_table(Series("commits", "commits/s", {"in memory": [10.0]}, figures={"in memory": [shown]}))
    said = capsys.readouterr().out
    assert "p50" in said
    assert "7.00" in said
    assert "CPU" not in said


def test_a_durable_stream_that_is_behind_plain_files_is_named(capsys):
    series = Series("ingest", "MB/s", {"plain": [100.0, 90.0], "durable": [70.0, 63.0]})
    print_slower([series], {"durable": ["plain"]})
    assert "ingest: durable 0.70 of plain" in capsys.readouterr().out
    assert Case.of(ingest(SMOKE).json()) == ingest(SMOKE)
