"""The JVM connector comes with the wheel: nothing has to be found, or put on a class path, before Spark starts."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bowstring.streaming import add_jar, jar
from bowstring.streaming import jvm as connector

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

#: All that the jar may have, besides its manifest and folders: Spark's class path takes no other class from it.
CONTENTS = re.compile(
    r"io/bowstring/spark/\w+(\$\w+)?\.class"
    r"|META-INF/services/org\.apache\.spark\.sql\.sources\.DataSourceRegister"
    r"|io/bowstring/spark/native/\w+-\w+/libbowstring_jvm\.(so|dylib)"
)


def test_a_session_that_runs_already_takes_the_connector_in_all_of_its_threads_and_sessions() -> None:
    program = Path(__file__).with_name("jvm_start.py")
    done = subprocess.run([sys.executable, str(program)], capture_output=True, check=False, timeout=200, text=True)
    assert done.returncode == 0, done.stderr[-4000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert "PYTHON_DATA_SOURCE_ERROR" in found.pop("before")
    assert found == {
        **{f"forward {number}": True for number in range(3)},
        "reverse": True,
        "reverse of another session": True,
        "after": "jvm",
        "after in a thread": "jvm",
        "by class name": 4950,
    }


def test_the_jar_has_nothing_that_could_meet_spark_s_own() -> None:
    with zipfile.ZipFile(jar()) as opened:
        names = [name for name in opened.namelist() if not name.endswith("/")]
    others = [name for name in names if not CONTENTS.fullmatch(name)]
    assert others in ([], ["META-INF/MANIFEST.MF"])
    assert sum("/native/" in name for name in names) == 1
    assert "io/bowstring/spark/BowstringProvider.class" in names


def test_to_add_the_jar_again_changes_nothing(spark: SparkSession) -> None:
    for _ in range(3):
        add_jar(spark)
    assert spark.sparkContext._jsc.sc().listJars().isEmpty(), "local executors have the driver's classes"


def test_an_installation_without_the_jar_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(connector, "_JAR", tmp_path / "bowstring-spark.jar")
    with pytest.raises(FileNotFoundError, match=r"no JVM connector.*make wheel.*leave use_jvm_sink"):
        jar()
