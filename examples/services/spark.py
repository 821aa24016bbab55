"""Spark on this machine; and another Spark than the installed one, for what is not made for that yet."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from .maven import cache_folder, only_one

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

#: Says, to the program that is started anew, which Spark it should find.
_STARTED_WITH = "BOWSTRING_EXAMPLE_SPARK"


def local_spark(name: str, settings: Mapping[str, str]) -> SparkSession:
    """Spark on two cores of this machine, with the Python that runs the program."""
    from pyspark.sql import SparkSession

    os.environ["PYSPARK_PYTHON"] = sys.executable
    os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    builder = SparkSession.builder.master("local[2]").appName(name)
    usual = {
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.driver.memory": "1g",
        "spark.sql.shuffle.partitions": "2",
    }
    for setting, value in (usual | dict(settings)).items():
        builder = builder.config(setting, value)
    spark = builder.getOrCreate()
    spark.sparkContext.setLogLevel("ERROR")
    return spark


def run_with_spark(version: str) -> None:
    """Returns if the installed pyspark is of `version`'s minor release (4.1.4: any 4.1).

    Otherwise this very program is started anew, in place of this process, with a pyspark of just that version; the
    first time pip fetches it into `${XDG_CACHE_HOME:-~/.cache}/bowstring`, outside of any checkout. Call it first of
    all: what ran before runs again. Raises subprocess.CalledProcessError if pip fails.
    """
    found = _installed()
    if found is not None and found.split(".")[:2] == version.split(".")[:2]:
        return
    if os.environ.get(_STARTED_WITH) == version:
        raise RuntimeError(f"pyspark {version} was asked for, and {found} is what Python finds; look at PYTHONPATH")
    path = os.pathsep.join([str(fetch_spark(version)), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = os.environ | {_STARTED_WITH: version, "PYTHONPATH": path}
    environment.pop("SPARK_HOME", None)
    sys.stdout.flush()
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)  # noqa: S606 - it is this program


def fetch_spark(version: str) -> Path:
    """The folder that has pyspark of this version, to be put on PYTHONPATH. Raises as `run_with_spark`."""
    folder = cache_folder() / f"pyspark-{version}"
    with only_one(folder.name):
        if not folder.exists():
            print(f"fetching pyspark {version} into {folder} ...", flush=True)
            half = folder.with_suffix(".half")
            shutil.rmtree(half, ignore_errors=True)
            pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
            subprocess.run([*pip, "--target", str(half), f"pyspark=={version}"], check=True)
            half.rename(folder)
    return folder


def _installed() -> str | None:
    """The version of the pyspark that an import finds; importing it here would load it."""
    spec = find_spec("pyspark")
    if spec is None or spec.origin is None:
        return None
    told: dict[str, str] = {}
    exec((Path(spec.origin).parent / "version.py").read_text(), told)  # noqa: S102 - pyspark's own file of one line
    return told["__version__"]
