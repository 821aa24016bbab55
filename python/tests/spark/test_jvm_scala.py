"""The Scala example, compiled by the compiler that comes with Spark, started as a user would: spark-submit --jars."""

from __future__ import annotations

import os
import subprocess
from importlib.util import find_spec
from pathlib import Path

import bowstring
from bowstring.streaming import jar

SPARK = Path(find_spec("pyspark").origin).parent  # type: ignore[union-attr, arg-type]
EXAMPLE = Path(__file__).parents[3] / "examples" / "scala" / "Clicks.scala"


def run(*command: str, cwd: Path) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYSPARK")}
    environment["SPARK_HOME"] = str(SPARK)
    done = subprocess.run(command, capture_output=True, check=False, cwd=cwd, env=environment, text=True, timeout=200)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout


def test_a_scala_program_writes_and_reads_with_the_jar(client: bowstring.Client, tmp_path: Path) -> None:
    compiler = (
        "java",
        "-cp",
        f"{SPARK}/jars/*",
        "scala.tools.nsc.Main",
        "-usejavacp",
        "-release",
        "17",
    )
    run(*compiler, "-d", "clicks.jar", str(EXAMPLE), cwd=tmp_path)
    spark = (str(SPARK / "bin" / "spark-submit"), "--master", "local[2]", "--conf", "spark.driver.host=127.0.0.1")
    printed = run(*spark, "--jars", jar(), "--class", "Clicks", "clicks.jar", client.url, cwd=tmp_path)
    assert printed.splitlines()[-1] == "1000 clicks of 7 users"
    assert client.describe_stream("clicks")["options"]["partitions"] == 2
