"""Packages of the Java world by their coordinates, fetched by the Ivy that pyspark brings: no Maven is needed.

They are kept in `${XDG_CACHE_HOME:-~/.cache}/bowstring/maven`, so that only the first run fetches anything. Who is
behind a mirror names a file of Ivy's settings in the environment variable IVY_SETTINGS.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

#: What Ivy may take to fetch some hundred megabytes.
FETCH_SECONDS_MAX = 900
#: Jars of another version of what Spark has itself: these must not come beside Spark's own.
_SPARKS_OWN = ("hadoop-client-", "log4j-", "scala-library-", "slf4j-", "spark-tags_")


def cache_folder() -> Path:
    """Where what was fetched stays, outside of any checkout; it exists."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "bowstring"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextmanager
def only_one(what: str) -> Iterator[None]:
    """One process at a time fetches `what`; the others wait, and find it then."""
    with (cache_folder() / f"{what}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def jars(*coordinates: str) -> list[Path]:
    """The jars of `group:artifact:version` and of all that these need to run, fetched the first time.

    Raises ValueError for coordinates that are none, RuntimeError with Ivy's own words if something cannot be fetched.
    """
    settings = os.environ.get("IVY_SETTINGS", "")
    name = hashlib.sha256("\n".join([settings, *coordinates]).encode()).hexdigest()[:32]
    folder = cache_folder() / "maven"
    listed = folder / f"{name}.classpath"
    with only_one("maven"):
        found = _read(listed)
        if found is None:
            folder.mkdir(exist_ok=True)
            _fetch(coordinates, settings, folder, listed)
            found = _read(listed)
    if found is None:
        raise RuntimeError(f"Ivy lists jars of {', '.join(coordinates)} that are not there; delete {folder}")
    return found


def jars_for_spark(*coordinates: str) -> str:
    """The same for Spark's setting `spark.jars`, less what Spark brings itself."""
    own = {_artifact(one.name) for one in spark_jars().glob("*.jar")}
    kept = [one for one in jars(*coordinates) if _artifact(one.name) not in own]
    return ",".join(str(one) for one in kept if not one.name.startswith(_SPARKS_OWN))


def spark_jars() -> Path:
    """The folder of the jars that pyspark brings. Raises RuntimeError without pyspark."""
    spec = find_spec("pyspark")
    if spec is None or spec.origin is None:
        raise RuntimeError("pyspark is not installed; install it, for example with `pip install pyspark`")
    return Path(spec.origin).parent / "jars"


def java() -> str:
    """The command that runs Java: JAVA_HOME's, or the one on the path."""
    home = os.environ.get("JAVA_HOME")
    return str(Path(home) / "bin" / "java") if home else "java"


def _read(listed: Path) -> list[Path] | None:
    if not listed.exists():
        return None
    found = [Path(one) for one in listed.read_text().strip().split(os.pathsep)]
    return found if all(one.is_file() for one in found) else None


def _fetch(coordinates: tuple[str, ...], settings: str, folder: Path, listed: Path) -> None:
    (ivy,) = spark_jars().glob("ivy-*.jar")
    with tempfile.TemporaryDirectory() as temporary:
        wanted, made = Path(temporary) / "ivy.xml", Path(temporary) / "classpath"
        wanted.write_text(_module(coordinates))
        # `-m2compatible` is Ivy's name for: from where Maven gets them.
        where = ["-settings", settings] if settings else ["-m2compatible"]
        command = [java(), "-cp", str(ivy), "org.apache.ivy.Main", *where, "-cache", str(folder / "ivy")]
        command += ["-ivy", str(wanted), "-confs", "default", "-cachepath", str(made)]
        done = subprocess.run(command, capture_output=True, check=False, text=True, timeout=FETCH_SECONDS_MAX)
        if done.returncode != 0:
            said = "\n".join(line for line in (done.stdout + done.stderr).splitlines() if line.strip())
            raise RuntimeError(f"Ivy cannot fetch {', '.join(coordinates)}:\n{said[-3000:]}")
        # At once, or a run that is killed would leave half a list.
        half = listed.with_suffix(".half")
        half.write_text(made.read_text().strip())
        half.replace(listed)


def _module(coordinates: tuple[str, ...]) -> str:
    """A module that depends on all of them, so that each package comes in one version."""
    lines = []
    for one in coordinates:
        if re.fullmatch(r"[\w.-]+:[\w.-]+:[\w.-]+", one) is None:
            raise ValueError(f"{one!r} is no package; write group:artifact:version")
        group, artifact, version = one.split(":")
        lines.append(f'<dependency org="{group}" name="{artifact}" rev="{version}" conf="default->default"/>')
    return (
        '<ivy-module version="2.0"><info organisation="bowstring" module="examples"/>'
        '<configurations><conf name="default"/></configurations>'
        f"<dependencies>{''.join(lines)}</dependencies></ivy-module>"
    )


def _artifact(jar: str) -> str:
    """A jar's name without its version."""
    return re.sub(r"-\d[\w.+-]*\.jar$", "", jar)
