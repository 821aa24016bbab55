"""Java programs of the tests, compiled against the connector's jar and Spark's: they see what its package keeps."""

from __future__ import annotations

import importlib.util
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from bowstring.streaming import jvm as connector

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

#: The connector with points where a test steps in: options `points`, the folder of points.py, and `executorsUrl`.
WATCHED = "io.bowstring.spark.WatchedProvider"

_SOURCES = Path(__file__).parents[3] / "jvm" / "src" / "test" / "java"
#: What Spark itself starts its JVMs with, as far as it matters here, and a heap that is all there from the beginning.
_OPTIONS = [
    "-Xms128m", "-Xmx128m", "-XX:+AlwaysPreTouch", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1",
    "-XX:+IgnoreUnrecognizedVMOptions", "--add-opens=java.base/java.nio=ALL-UNNAMED",
    "--add-opens=java.base/sun.nio.ch=ALL-UNNAMED", "--add-opens=java.base/java.lang=ALL-UNNAMED",
]  # fmt: skip


def compile_all(directory: Path) -> str:
    """Compiles the tests' classes into a folder; gives it as a part of a class path."""
    sources = [str(path) for path in _SOURCES.rglob("*.java")]
    subprocess.run(
        [_tool("javac"), "--release", "17", "-cp", _class_path(), "-d", str(directory), *sources], check=True
    )
    return str(directory)


def add(spark: SparkSession, classes: str) -> None:
    """Has a session find them, in the class loader that has the connector's."""
    loader = connector._submit_loader(spark)
    loader.addURL(spark._jvm.java.io.File(classes).toURI().toURL())


def run(classes: str, program: str, *arguments: str, timeout: float = 200) -> list[str]:
    """The lines that a program has written."""
    command = [
        _tool("java"),
        *_OPTIONS,
        "-cp",
        os.pathsep.join([classes, _class_path()]),
        f"io.bowstring.spark.{program}",
    ]
    done = subprocess.run([*command, *arguments], capture_output=True, check=False, timeout=timeout, text=True)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return done.stdout.splitlines()


def _class_path() -> str:
    found = importlib.util.find_spec("pyspark")
    assert found is not None
    assert found.origin is not None
    return os.pathsep.join([connector.jar(), str(Path(found.origin).parent / "jars" / "*")])


def _tool(name: str) -> str:
    home = os.environ.get("JAVA_HOME")
    return str(Path(home) / "bin" / name) if home else name
