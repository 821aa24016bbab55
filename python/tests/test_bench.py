"""`bowstring bench` from the wheel starts itself, by the script that pip has installed; what `make bench` counts."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

# The benchmarks' programs are there; nothing here starts one.
os.environ.setdefault("CARGO_TARGET_DIR", "target")

from bench import flows, leases, many, subscriptions
from bench.__main__ import chosen
from bench.cases import Case
from bench.data_folder import data_folder, file_system
from bench.durable import MUCH, QUICK, SMOKE, ingest, relays
from bench.figures import Figures, figures
from bench.flow_rows import Work
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


@pytest.fixture
def installed(monkeypatch):
    """The command that pip has installed, as coordinator and ends, instead of cargo's."""
    monkeypatch.setattr("bench.contestants.SERVER", str(Path(sys.executable).parent / "bowstring"))


def contestants(series):
    """Those of each series, of one round, whose table can be printed."""
    for one in series:
        assert all(len(values) == 1 for values in one.values.values()), one
        assert set(one.against) <= set(one.values), one
        print_table(one)
    return [list(one.values) for one in series]


@pytest.mark.usefixtures("installed")
def test_subscriptions_are_measured_beside_a_single_one_and_reading_alone():
    amount = subscriptions.Amount(counts=(1, 3), batches={1 << 10: 100, 1 << 20: 70})
    series, floors = subscriptions.measure_subscriptions(1, amount)
    both = ["1 subscription", "3 subscriptions"]
    assert floors == []
    beside = [*both, subscriptions.SENDS_ALONE]
    assert contestants(series) == 3 * [beside, beside, both] + 9 * [both]
    delivered = {one.name: {name: shown[0].batches for name, shown in one.figures.items()} for one in series[::3]}
    assert list(delivered.values()) == [
        {both[0]: batches, both[1]: batches * (3 if "each read" in name else 1)}
        | ({subscriptions.SENDS_ALONE: batches} if "each read" in name else {})
        for name in delivered
        for batches in [100 if "1 KiB" in name else 70]
    ]


def test_a_hundred_subscriptions_may_not_take_more_than_one_does():
    amount = subscriptions.Amount(counts=(1, 100), batches={1 << 20: 8})
    load = subscriptions.Load(subscriptions.READ, "1 MiB", 1 << 20)
    measured = subscriptions.Measured(load, load.case(amount.batches), amount)
    for name, cpu, peak in [("1 subscription", 1.0, 10), ("100 subscriptions", 4.0, 50)]:
        measured.add(name, subscriptions.Shown(Figures(1.0, 8, 8 << 20, {"coordinator": cpu}), peak))
    assert [(floor.ratio, floor.holds) for floor in measured.floors()] == [(0.2, False), (0.25, False)]


@pytest.mark.usefixtures("installed")
def test_many_streams_are_measured_beside_a_single_one():
    series, _ = many.measure_many(1, many.Amount(counts=(1, 20), seconds=0.2, idle_seconds=0.05))
    p50, p99, cpu, idle, total, each = contestants(series)
    assert p50 == p99 == cpu == idle == ["1 stream", "20 streams"]
    assert (len(total), len(each)) == (12, 3)
    assert [shown[0].batches for shown in series[0].figures.values()] == [200 + 1, 200 + 20]


@pytest.mark.usefixtures("installed")
def test_every_mode_of_a_subscription_is_measured_beside_static():
    series, _ = leases.measure_leases(1, leases.Amount([("1 KiB", 1 << 10, 200)]))
    assert contestants(series) == 6 * [list(leases.MODES)]
    assert all(shown[0].batches == 200 for one in series[::3] for shown in one.figures.values())
    named = [leases.reads(leases.case("1 KiB", 1 << 10, 1, 3), "static", number)[-1] for number in range(3)]
    assert named == ["0,3", "1", "2"], "each partition is named once"


def test_flows_are_measured_beside_loops_that_give_the_same(tmp_path, monkeypatch):
    monkeypatch.setenv("BENCH_DATA_DIR", str(tmp_path))
    monkeypatch.setattr("bench.data_folder.file_system", lambda _: "ext4")
    ours = (flows.FLOW, flows.SAVED_FLOW, flows.POLARS, flows.DUCKDB)
    chosen = {name: flows.CONTESTANTS[name] for name in ours}
    series, floors = flows.measure_flows(1, rows=100_000, contestants=chosen)
    assert floors == []
    assert contestants(series) == 8 * [list(ours)]
    assert [one.unit for one in series] == 4 * ["M rows per CPU second", "M rows/s"]


def test_a_flow_with_wrong_results_has_no_figure():
    measured = flows.Measured(Work("count", rows=1000, keys=10))
    right = {"seconds": 2.0, "cpu_seconds": 4.0, "digest": measured.work.expected()}
    measured.add(flows.FLOW, right)
    assert (measured.per_wall.values, measured.per_core.values) == ({flows.FLOW: [5e-4]}, {flows.FLOW: [2.5e-4]})
    with pytest.raises(RuntimeError, match=r"10 keys, bowstring flow: .* came instead of "):
        measured.add(flows.FLOW, right | {"digest": [60, 1000, 0, 0]})


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
