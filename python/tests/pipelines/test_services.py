"""What the pipelines' examples fetch and start: Java packages by Ivy, here of a repository of our own; a broker."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from examples.services import maven
from examples.services.kafka import running_broker

ROOT = Path(__file__).parents[3]
#: Brokers' folders.
BROKERS = "bowstring-kafka-*"
SETTINGS = """
<ivysettings><settings defaultResolver="here"/><resolvers><filesystem name="here" m2compatible="true">
<ivy pattern="{repository}/[organisation]/[module]/[revision]/[module]-[revision].pom"/>
<artifact pattern="{repository}/[organisation]/[module]/[revision]/[artifact]-[revision].[ext]"/>
</filesystem></resolvers></ivysettings>
"""
POM = """
<project><modelVersion>4.0.0</modelVersion><groupId>org.nowhere</groupId><artifactId>{name}</artifactId>
<version>{version}</version><dependencies>{needs}</dependencies></project>
"""
NEED = "<dependency><groupId>org.nowhere</groupId><artifactId>{0}</artifactId><version>{1}</version></dependency>"


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Packages `bow` 1.0, which needs `wood` 1.0, `arrow` 1.0, which needs `wood` 2.0; a cache that is empty."""
    folder = tmp_path / "repository"
    for name, version, needs in [
        ("bow", "1.0", [("wood", "1.0")]),
        ("arrow", "1.0", [("wood", "2.0")]),
        ("wood", "1.0", []),
        ("wood", "2.0", []),
    ]:
        package = folder / "org" / "nowhere" / name / version
        package.mkdir(parents=True)
        needed = "".join(NEED.format(*need) for need in needs)
        (package / f"{name}-{version}.pom").write_text(POM.format(name=name, version=version, needs=needed))
        (package / f"{name}-{version}.jar").write_bytes(f"{name} {version}".encode())
    settings = tmp_path / "settings.xml"
    settings.write_text(SETTINGS.format(repository=folder))
    monkeypatch.setenv("IVY_SETTINGS", str(settings))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return folder


def test_packages_come_with_what_they_need_in_one_version_each_and_stay(repository: Path):
    found = maven.jars("org.nowhere:bow:1.0", "org.nowhere:arrow:1.0")
    assert sorted(one.read_text() for one in found) == ["arrow 1.0", "bow 1.0", "wood 2.0"]
    shutil.rmtree(repository)
    assert maven.jars("org.nowhere:bow:1.0", "org.nowhere:arrow:1.0") == found


@pytest.mark.usefixtures("repository")
def test_packages_that_were_removed_from_the_cache_are_fetched_again():
    (found,) = maven.jars("org.nowhere:wood:1.0")
    shutil.rmtree(maven.cache_folder() / "maven" / "ivy")
    assert maven.jars("org.nowhere:wood:1.0") == [found]
    assert found.read_text() == "wood 1.0"


@pytest.mark.usefixtures("repository")
def test_what_spark_brings_itself_does_not_come_beside_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    sparks = tmp_path / "spark"
    sparks.mkdir()
    (sparks / "wood-0.9.jar").touch()
    shutil.copy(next(maven.spark_jars().glob("ivy-*.jar")), sparks)
    monkeypatch.setattr(maven, "spark_jars", lambda: sparks)
    assert [Path(one).name for one in maven.jars_for_spark("org.nowhere:bow:1.0").split(",")] == ["bow-1.0.jar"]


@pytest.mark.usefixtures("repository")
def test_a_package_that_is_not_there_is_told_by_its_name():
    with pytest.raises(RuntimeError, match=r"cannot fetch org.nowhere:string:1.0:\n") as caught:
        maven.jars("org.nowhere:string:1.0")
    assert "org.nowhere#string;1.0: not found" in str(caught.value)
    with pytest.raises(ValueError, match="'string' is no package; write group:artifact:version"):
        maven.jars("string")


# The broker is fetched the first time.
@pytest.mark.timeout(600)
def test_a_broker_and_its_folder_end_with_the_process_that_started_it_however_that_ends(tmp_path: Path):
    program = "import sys\nfrom examples.services.kafka import running_broker\n"
    program += "with running_broker() as address:\n    print(address, flush=True)\n    sys.stdin.read()"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    environment["TMPDIR"] = str(tmp_path)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", program], text=True, env=environment, **pipes) as process:
        assert process.stdout is not None
        host, port = process.stdout.readline().strip().split(":")
        socket.create_connection((host, int(port)), 5).close()
        assert list(tmp_path.glob(BROKERS))
        process.kill()
    deadline = time.monotonic() + 60
    while _listens(host, int(port)) or list(tmp_path.glob(BROKERS)):
        assert time.monotonic() < deadline, "the broker or its folder outlives its process"
        time.sleep(0.1)


@pytest.mark.timeout(600)
def test_a_setting_that_kafka_refuses_is_told_in_its_words(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with (
        pytest.raises(RuntimeError, match=r"Invalid value 0 for configuration num\.partitions"),
        running_broker({"num.partitions": "0"}),
    ):
        pass
    assert not list(tmp_path.glob(BROKERS))


def _listens(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), 1).close()
    except OSError:
        return False
    return True
