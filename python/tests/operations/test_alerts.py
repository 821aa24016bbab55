"""deploy/prometheus: a real Prometheus fires every alert in its state, and none for a coordinator that is well."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

import bowstring

from ..support import Child, Served, numbered, wait_until
from .prometheus import RULES, Prometheus, free_address, program, scaled
from .security import FULL, insecure
from .states import STATES, THRESHOLDS, Sick


def alerts() -> set[str]:
    return {rule["alert"] for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]}


@contextmanager
def made(served: dict[str, Served]) -> Iterator[Sick]:
    sick = Sick(**{name: bowstring.connect(one.url) for name, one in served.items()})
    try:
        yield sick
    finally:
        sick.end()


def keep_well(sick: Sick, client: bowstring.Client) -> None:
    """Appends, reads and acks until the end."""
    client.create_stream("well")
    producer = client.producer("well")
    iterator = client.iterator("well", subscription="reader", timeout=30)
    sick.again_and_again(lambda number: (producer.append(numbered(number)), next(iterator)), 0.05)
    sick.held += [producer, iterator]


@pytest.mark.timeout(180)
def test_every_alert_fires_in_its_state_and_none_for_a_coordinator_that_is_well(
    serve: Callable[..., Served],
    start_python: Callable[..., Child],
    certificate: tuple[str, str],
    tmp_path: Path,
) -> None:
    cert, key = certificate
    spool = tmp_path / "spool"
    spool.mkdir()
    served = {
        "memory": serve(),
        "spool_less": serve("--spool-dir", str(spool)),
        "disk": serve("--data-dir", str(tmp_path / "disk")),
        "full": serve("--data-dir", str(tmp_path / "full"), "--spool-reserve-bytes", "1000TiB"),
    }
    shutil.rmtree(spool)
    well, ending = serve(), serve()
    secure = serve("--tls-cert", cert, "--tls-key", key, "--audit-file", FULL)
    http = free_address()

    def restarting() -> Served:
        return Served(start_python("-m", "bowstring", "serve", "--listen", "127.0.0.1:0", "--http", http))

    def uptime() -> float | None:
        return prometheus.value(f'bowstring_uptime_seconds{{instance="{http}"}}')

    restarted = restarting()
    targets = [one.http_address for one in (*served.values(), well, ending)]
    rules = scaled(RULES.read_text(), THRESHOLDS)
    prometheus = Prometheus(tmp_path, rules, [*targets, http], [secure.http_address])
    try:
        wait_until(lambda: prometheus.value("sum(up)") == len(targets) + 2)
        with made(served) as sick:
            expected = {alert: make(sick) for alert, make in STATES.items()}
            expected |= insecure(sick, secure, Path(cert))
            keep_well(sick, bowstring.connect(well.url))
            expected["BowstringDown"] = {"instance": ending.http_address}
            ending.child.kill()
            expected["BowstringRestarts"] = {"instance": http}
            for _ in range(3):
                wait_until(lambda: (uptime() or 0.0) > 2.5)
                old = uptime() or 0.0
                restarted.child.kill()
                restarted = restarting()
                # Younger than its predecessor was when Prometheus looked last.
                wait_until(lambda old=old: (uptime() or old) < old)
            assert set(expected) == alerts(), "each alert has a state"
            missing, wrong = dict(expected), []
            deadline = time.monotonic() + 60
            while missing and time.monotonic() < deadline:
                for alert in prometheus.firing():
                    labels, name = alert["labels"], alert["labels"]["alertname"]
                    if missing.get(name, {"": ""}).items() <= labels.items():
                        del missing[name]
                    if labels.get("instance") == well.http_address:
                        wrong.append(alert)
                    assert "<no value>" not in str(alert["annotations"]), alert
                time.sleep(0.2)
            assert not missing, f"these did not fire: {missing}"
            assert not wrong, "these fired for the coordinator that is well"
            assert prometheus.failures() == []
    finally:
        prometheus.end()


def test_the_rules_are_valid() -> None:
    told = subprocess.run([program("promtool"), "check", "rules", str(RULES)], capture_output=True, text=True)
    assert told.returncode == 0, told.stdout + told.stderr
    config = RULES.with_name("prometheus.yml")
    told = subprocess.run(
        [program("promtool"), "check", "config", "--lint-fatal", str(config)], capture_output=True, text=True
    )
    assert told.returncode == 0, told.stdout + told.stderr


def test_thresholds_and_durations_as_they_are_hold_on_both_sides() -> None:
    tests = RULES.with_name("alerts_test.yml")
    told = subprocess.run([program("promtool"), "test", "rules", str(tests)], capture_output=True, text=True)
    assert told.returncode == 0, told.stdout + told.stderr


def test_every_alert_says_what_to_do_and_how_urgent_it_is() -> None:
    for group in yaml.safe_load(RULES.read_text())["groups"]:
        for rule in group["rules"]:
            assert rule["labels"]["severity"] in {"page", "ticket"}, rule
            assert set(rule["annotations"]) == {"summary", "description"}, rule
