"""A real Prometheus that scrapes coordinators twice a second, with the rules at a speed to match."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import urllib.parse
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from ..support import get, wait_until

DEPLOY = Path(__file__).parents[3] / "deploy"
RULES = DEPLOY / "prometheus" / "alerts.yml"
SCRAPES_EVERY = "500ms"
#: What ranges of minutes become: a dozen scrapes.
RANGE = "6s"
#: What the rules' `for` becomes.
FOR = "2s"


def program(name: str) -> str:
    """The path of `prometheus` or `promtool`; the test is skipped where it is missing and need not be there."""
    found = shutil.which(name)
    if found is None:
        assert os.environ.get("BOWSTRING_PROMETHEUS") != "required", f"{name} is not on the PATH"
        pytest.skip(f"{name} is not on the PATH: .ci/prometheus.sh gets it on Debian")
    return found


def scaled(rules: str, thresholds: dict[str, tuple[str, str]]) -> str:
    """The rules with seconds in place of minutes, and the thresholds that cannot be reached in seconds replaced."""
    for alert, (real, quick) in thresholds.items():
        begin = rules.index(f"alert: {alert}\n")
        end = rules.index("summary:", begin)
        assert rules[begin:end].count(real) == 1, f"{alert} has {real} not just once"
        rules = rules[:begin] + rules[begin:end].replace(real, quick) + rules[end:]
    rules = re.sub(r"\bfor: \d+m", f"for: {FOR}", rules)
    rules = re.sub(r"\[\d+m:\d+s\]", f"[{RANGE}:{SCRAPES_EVERY}]", rules)
    rules = re.sub(r"\[\d+m\]", f"[{RANGE}]", rules)
    rules = re.sub(r"offset \d+m", f"offset {RANGE}", rules)
    assert not re.search(r"\d+m\b", re.sub(r"(summary|description):.*", "", rules)), "a duration in minutes is left"
    return rules


def free_address() -> str:
    """An address that is free now."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


class Prometheus:
    """A server in a folder of its own; `targets` are `host:port` of HTTP ports, `secure` of those that speak TLS."""

    def __init__(self, folder: Path, rules: str, targets: Iterable[str], secure: Iterable[str] = ()) -> None:
        (folder / "alerts.yml").write_text(rules)
        plain = {"job_name": "bowstring", "static_configs": [{"targets": list(targets)}]}
        by_tls = {"job_name": "by TLS", "scheme": "https", "tls_config": {"insecure_skip_verify": True}}
        # One job to the rules, which ask for it by its name.
        labelled = {"targets": list(secure), "labels": {"job": "bowstring"}}
        scrapes = [plain, {**by_tls, "static_configs": [labelled]}]
        speed = dict.fromkeys(("scrape_interval", "scrape_timeout", "evaluation_interval"), SCRAPES_EVERY)
        # JSON is YAML.
        (folder / "prometheus.yml").write_text(
            json.dumps({"global": speed, "rule_files": ["alerts.yml"], "scrape_configs": scrapes})
        )
        self.address = free_address()
        self.log = folder / "log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [
                    program("prometheus"),
                    f"--config.file={folder}/prometheus.yml",
                    f"--storage.tsdb.path={folder}/data",
                    f"--web.listen-address={self.address}",
                ],
                stdout=log,
                stderr=log,
            )
        wait_until(self._is_ready)

    def _is_ready(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        try:
            return bool(get(f"http://{self.address}/-/ready"))
        except OSError:
            return False

    def _ask(self, path: str, **parameters: str) -> Any:
        answer = json.loads(get(f"http://{self.address}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"))
        assert answer["status"] == "success", answer
        return answer["data"]

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The vector that an expression gives now."""
        return self._ask("query", query=expression)["result"]

    def value(self, expression: str) -> float | None:
        """The value of the one series that an expression gives now."""
        found = self.query(expression)
        assert len(found) <= 1, found
        return float(found[0]["value"][1]) if found else None

    def firing(self) -> list[dict[str, Any]]:
        """The alerts that fire now: labels and annotations."""
        return [alert for alert in self._ask("alerts")["alerts"] if alert["state"] == "firing"]

    def failures(self) -> list[str]:
        """Rules that could not be evaluated."""
        groups = self._ask("rules")["groups"]
        return [
            f"{rule['name']}: {rule['lastError']}" for one in groups for rule in one["rules"] if rule.get("lastError")
        ]

    def end(self) -> None:
        """Ends it and waits for that."""
        self.process.terminate()
        self.process.wait(30)
