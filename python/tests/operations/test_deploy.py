"""deploy/: linted by each format's own linter, and every setting in it is one that the command has."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tomllib
import yaml

import bowstring

from ..support import Child, Served, numbered
from .prometheus import DEPLOY

CHART = DEPLOY / "helm" / "bowstring"
#: Kubernetes' versions whose schemas the chart's kinds are held to.
KUBERNETES = ("1.30", "1.37")
INSECURE = {"insecure": True}
SECURE = {
    "tls": {"secretName": "certificate", "clientCaSecretName": "clients"},
    "auth": {"tokensSecretName": "tokens"},
    "environmentSecretName": "store",
    "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
    "replicas": 3,
    "podLabels": {"team": "data"},
    "settings": {"max_buffered_bytes": "1GiB", "object_store": "s3://bucket/prefix"},
}


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "bowstring", *arguments], capture_output=True, text=True, timeout=60)


def rendered(values: dict[str, Any]) -> list[dict[str, Any]]:
    from helm_python import Chart

    with Chart.load(CHART) as chart:
        files = chart.render(values, name="demo", namespace="streams")
    # The notes are for people.
    manifests = [text for name, text in files.items() if name.endswith(".yaml")]
    return [one for text in manifests for one in yaml.safe_load_all(text) if one]


def of_kind(manifests: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    (found,) = (one for one in manifests if one["kind"] == kind)
    return found


def container(manifests: list[dict[str, Any]]) -> dict[str, Any]:
    (found,) = of_kind(manifests, "StatefulSet")["spec"]["template"]["spec"]["containers"]
    return found


def test_every_setting_is_one_that_the_command_has() -> None:
    known = command("serve", "--help").stdout
    named = set()
    for path in DEPLOY.rglob("*"):
        if path.is_file() and path.suffix != ".md":
            named |= set(re.findall(r"\bBOWSTRING_[A-Z_]*[A-Z]\b|--insecure", path.read_text()))
    settings = tomllib.loads((DEPLOY / "systemd" / "bowstring.toml").read_text())
    assert settings.pop("log") == {"format": "json"}
    chart = yaml.safe_load((CHART / "values.yaml").read_text())["settings"]
    named |= {f"BOWSTRING_{name.upper()}" for name in (*settings, *chart)} | {"BOWSTRING_LOG_FORMAT"}
    assert {one for one in named if one not in known} == set()


# systemd


def test_the_unit_is_valid_and_hardened(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not on the PATH")
    unit = tmp_path / "bowstring.service"
    text = (DEPLOY / "systemd" / "bowstring.service").read_text()
    assert text.count("/usr/bin/bowstring ") == 1
    # Verified is that the program is there, too.
    unit.write_text(text.replace("/usr/bin/bowstring ", f"{sys.executable} -m bowstring "))
    dropped = tmp_path / "bowstring.service.d"
    dropped.mkdir()
    shutil.copy(DEPLOY / "systemd" / "secure.conf", dropped)
    told = subprocess.run(["systemd-analyze", "verify", "--man=no", str(unit)], capture_output=True, text=True)
    assert (told.returncode, [line for line in told.stderr.splitlines() if "bowstring" in line]) == (0, [])
    security = ["systemd-analyze", "security", "--offline=yes", "--threshold=15", "--no-pager", str(unit)]
    told = subprocess.run(security, capture_output=True, text=True)
    assert told.returncode == 0, told.stdout.splitlines()[-1]


def test_the_units_settings_start_a_coordinator(start_python: Callable[..., Child], tmp_path: Path) -> None:
    text = (DEPLOY / "systemd" / "bowstring.toml").read_text()
    config = tmp_path / "bowstring.toml"
    config.write_text(text.replace("/var/lib/bowstring", str(tmp_path)).replace("127.0.0.1:88", "127.0.0.1:0 # 88"))
    config.write_text(re.sub(r'"127.0.0.1:0 # \d+"', '"127.0.0.1:0"', config.read_text()))
    served = Served(start_python("-m", "bowstring", "serve", "--config", str(config)))
    with bowstring.connect(served.url).producer("s") as producer:
        producer.append(numbered(0))
    assert bowstring.connect(served.url).describe_stream("s")["is_durable"]
    assert (tmp_path / "data").is_dir()


# Docker


def test_the_dockerfile_is_clean_and_its_image_has_no_shell_and_no_root() -> None:
    path = DEPLOY / "docker" / "Dockerfile"
    hadolint = Path(sys.executable).with_name("hadolint")
    told = subprocess.run([str(hadolint), "--failure-threshold", "style", str(path)], capture_output=True, text=True)
    assert told.returncode == 0, told.stdout
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    runtime = lines[max(number for number, line in enumerate(lines) if line.startswith("FROM")) :]
    assert "distroless" in runtime[0]
    assert runtime[0].endswith(":nonroot")
    assert "USER 65532:65532" in runtime
    assert not any(line.startswith("RUN") for line in runtime), "there is no shell to run anything"
    entry = re.findall(r"^(?:ENTRYPOINT|CMD|    CMD) (.*)$", "\n".join(runtime), re.MULTILINE)
    assert len(entry) == 3
    assert all(one.startswith('["') for one in entry), "there is no shell to take words apart"


def test_the_toolchain_of_the_image_is_the_one_that_the_crate_asks_for() -> None:
    wanted = tomllib.loads((DEPLOY.parent / "Cargo.toml").read_text())
    version = wanted["workspace"]["package"]["rust-version"]
    text = (DEPLOY / "docker" / "Dockerfile").read_text()
    assert f"FROM rust:{version}-" in text
    assert f"--package {wanted['package']['name']} --bin bowstring" in text


def test_the_healthcheck_is_a_verb_of_the_command_and_fails_when_nobody_answers(serve: Callable[..., Served]) -> None:
    text = (DEPLOY / "docker" / "Dockerfile").read_text()
    (found,) = re.findall(r'^    CMD \["/usr/bin/bowstring", (.*)\]$', text, re.MULTILINE)
    arguments = re.findall(r'"([^"]*)"', found)
    served = serve()
    assert command(*arguments, "--url", served.url).returncode == 0
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        dead = f"grpc://127.0.0.1:{silent.getsockname()[1]}"
        assert command(*arguments, "--url", dead).returncode != 0


# Helm


@pytest.mark.parametrize("values", [{}, INSECURE, SECURE], ids=["default", "insecure", "secure"])
def test_helm_finds_nothing_wrong_with_the_chart(values: dict[str, Any]) -> None:
    from helm_python import lint

    found = lint(CHART, values, strict=True)
    worse = [one for one in found["messages"] if one["severity"] > 1]
    assert (found["total_charts_linted"], found["errors"], worse) == (1, [], [])


@pytest.mark.parametrize("version", KUBERNETES)
@pytest.mark.parametrize("values", [INSECURE, SECURE], ids=["insecure", "secure"])
def test_what_the_chart_renders_is_what_kubernetes_takes(values: dict[str, Any], version: str) -> None:
    import kubernetes_validate

    manifests = rendered(values)
    kinds = sorted(one["kind"] for one in manifests)
    monitor = ["ServiceMonitor"] if values is SECURE else []
    assert kinds == ["NetworkPolicy", "PodDisruptionBudget", "Service", "Service", *monitor, "StatefulSet"]
    for one in manifests:
        # The Prometheus operator's kind is in nobody's schemas here; what it selects is tested below.
        if one["kind"] != "ServiceMonitor":
            kubernetes_validate.validate(one, version, strict=True)
    broken = of_kind(manifests, "StatefulSet")
    broken["spec"]["replicaz"] = 1
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, version, strict=True)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({}, "tls.secretName is not set"),
        ({"tls": {"secretName": "t"}}, "neither auth.tokensSecretName nor tls.clientCaSecretName"),
        ({"insecure": True, "tls": {"clientCaSecretName": "c"}}, "needs tls.secretName"),
        ({"insecure": True, "settings": {"listen": "0.0.0.0:1"}}, "listen"),
        ({"insecure": True, "replicaz": 1}, "replicaz"),
        ({"insecure": True, "resources": {"limits": {"memory": None}}}, "memory"),
    ],
)
def test_values_that_are_insecure_or_unknown_are_refused(values: dict[str, Any], told: str) -> None:
    from helm_python import HelmError

    with pytest.raises(HelmError, match=re.escape(told)):
        rendered(values)


def test_selectors_ports_and_mounts_name_what_is_there() -> None:
    manifests = rendered(SECURE)
    stateful = of_kind(manifests, "StatefulSet")["spec"]
    pod, labels = stateful["template"]["spec"], stateful["template"]["metadata"]["labels"]
    services = {one["metadata"]["name"]: one for one in manifests if one["kind"] == "Service"}
    ports = {port["name"] for port in container(manifests)["ports"]}
    assert stateful["selector"]["matchLabels"].items() <= labels.items()
    assert services[stateful["serviceName"]]["spec"]["clusterIP"] == "None"
    for service in services.values():
        assert service["spec"]["selector"].items() <= labels.items()
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports
    for kind, selector in (("NetworkPolicy", "podSelector"), ("PodDisruptionBudget", "selector")):
        assert of_kind(manifests, kind)["spec"][selector]["matchLabels"].items() <= labels.items()
    monitor = of_kind(manifests, "ServiceMonitor")["spec"]
    chosen = [
        one
        for one in services.values()
        if monitor["selector"]["matchLabels"].items() <= one["metadata"]["labels"].items()
    ]
    assert len(chosen) == 1, "each pod is scraped once"
    assert monitor["endpoints"][0]["scheme"] == "https"
    assert monitor["endpoints"][0]["port"] in {port["name"] for port in chosen[0]["spec"]["ports"]}
    assert chosen[0]["metadata"]["labels"][monitor["jobLabel"]] == "bowstring", "the job that the alerts name"
    volumes = {
        one["name"]
        for one in (*pod["volumes"], *({"name": c["metadata"]["name"]} for c in stateful["volumeClaimTemplates"]))
    }
    assert {mount["name"] for mount in container(manifests)["volumeMounts"]} == volumes


def test_secrets_come_by_reference_and_the_pod_may_do_nothing_but_its_work() -> None:
    manifests = rendered(SECURE)
    pod, one = of_kind(manifests, "StatefulSet")["spec"]["template"]["spec"], container(manifests)
    assert {volume["secret"]["secretName"] for volume in pod["volumes"] if "secret" in volume} == {
        "certificate",
        "clients",
        "tokens",
    }
    environment = {variable["name"]: variable.get("value") for variable in one["env"]}
    assert environment["BOWSTRING_TLS_CERT"].startswith("/secrets/")
    assert "--insecure" not in one["args"]
    assert "--insecure" in container(rendered(INSECURE))["args"]
    for given, scheme in ((SECURE, "HTTPS"), (INSECURE, "HTTP")):
        probed = container(rendered(given))
        assert {probed[f"{name}Probe"]["httpGet"]["scheme"] for name in ("startup", "liveness", "readiness")} == {
            scheme
        }
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert one["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert one["resources"]["limits"]["memory"] == one["resources"]["requests"]["memory"]
    grace = int(environment.get("BOWSTRING_SHUTDOWN_GRACE", "").rstrip("s"))
    assert grace < pod["terminationGracePeriodSeconds"], "it ends by itself before it is killed"
