"""The JVM connector: where its jar is, and how it comes into a Spark session that runs already.

The jar is a part of the wheel, with the native library for this platform inside. Spark's executors then append and
read by themselves, with no Python process between them and the coordinator.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .connections import is_connect

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

#: The connector's format by its full name, which no other data source can have.
PROVIDER = "io.bowstring.spark.BowstringProvider"
_JAR = Path(__file__).parent.parent / "jars" / "bowstring-spark.jar"
_lock = threading.Lock()


def jar() -> str:
    """The path of the connector's jar, for ``--jars`` or ``spark.jars``.

    Raises FileNotFoundError if this installation has none.
    """
    if not _JAR.is_file():
        raise FileNotFoundError(
            f"this installation of bowstring has no JVM connector: {_JAR} is missing; install a wheel that was built "
            "with it (make wheel), or leave use_jvm_sink and use_jvm_source out"
        )
    return str(_JAR)


def add_jar(spark: SparkSession) -> None:
    """Makes the JVM connector known to a session: from then on ``format("bowstring")`` is it.

    That holds for all of the application's sessions, but with Spark Connect for this one. It need not be called where
    the session was started with the jar (``spark.jars``, ``--jars``), nor before ``use_jvm_sink`` and
    ``use_jvm_source``, which do it by themselves. Repeating it changes nothing.

    Raises FileNotFoundError if this installation has no jar.
    """
    if is_connect(spark):
        spark.addArtifact(jar())
        return
    with _lock:
        if _is_known(spark):
            return
        # ADD JAR would be seen by this thread alone, and a query's tasks would have other classes than its driver.
        # SparkSubmit's own class loader is above those of all threads and, in local mode, of the tasks.
        loader = _submit_loader(spark)
        if loader is None:
            spark.sql(f"ADD JAR '{jar()}'")
            return
        loader.addURL(_jvm(spark).java.io.File(jar()).toURI().toURL())
        if not spark._jsc.sc().isLocal():
            spark._jsc.addJar(jar())


def _is_known(spark: SparkSession) -> bool:
    from py4j.protocol import Py4JJavaError

    jvm = _jvm(spark)
    loader = _submit_loader(spark) or jvm.java.lang.Thread.currentThread().getContextClassLoader()
    try:
        getattr(jvm, "java.lang.Class").forName(PROVIDER, False, loader)
    except Py4JJavaError:
        return False
    return True


def _submit_loader(spark: SparkSession) -> Any:
    """The outermost class loader that takes jars; None where no SparkSubmit has started the JVM."""
    loader, found = _jvm(spark).java.lang.Thread.currentThread().getContextClassLoader(), None
    while loader is not None:
        name = loader.getClass().getName()
        if name.startswith("org.apache.spark.util.") and "URLClassLoader" in name:
            found = loader
        loader = loader.getParent()
    return found


def _jvm(spark: SparkSession) -> Any:
    return spark._jvm
