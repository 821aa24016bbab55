"""Both connectors with TLS and a token, each by its options: files on each machine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import bowstring
from bowstring.streaming import from_spark_streaming

from ..support import Served, Tokens
from .conftest import collect_available, read_stream

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession


@pytest.fixture
def secured(
    serve: Callable[..., Served], certificate: tuple[str, str], tmp_path: Path
) -> tuple[str, dict[str, str], Tokens]:
    """A coordinator with TLS that asks who calls: its URL, what a connection takes, and its tokens."""
    tokens = Tokens(tmp_path)
    token = tokens.issue("spark", "append:numbers", "read:numbers")
    cert, key = certificate
    served = serve("--tls-cert", cert, "--tls-key", key, "--auth-tokens", str(tokens.path))
    return f"grpc+tls://{served.address}", {"tls_ca": cert, "token_file": str(token)}, tokens


def test_a_query_out_and_one_back_speak_tls_and_show_the_token(
    spark: SparkSession,
    secured: tuple[str, dict[str, str], Tokens],
    connector: str,
    numbers: Callable[..., DataFrame],
    checkpoint: str,
) -> None:
    url, ways, _ = secured
    options = {"url": url, "tlsCa": ways["tls_ca"], "tokenFile": ways["token_file"]}
    writer = numbers(100).writeStream.format(connector).option("checkpointLocation", checkpoint)
    writer.options(**options, stream="numbers").trigger(availableNow=True).start().awaitTermination()
    bowstring.connect(url, **ways).complete_stream("numbers")
    frame = read_stream(spark, url, "numbers", connector, tlsCa=options["tlsCa"], tokenFile=options["tokenFile"])
    assert sorted(row["id"] for row in collect_available(frame)) == list(range(100))


def test_without_a_token_a_query_is_refused(
    spark: SparkSession, secured: tuple[str, dict[str, str], Tokens], connector: str
) -> None:
    url, ways, _ = secured
    with pytest.raises(Exception, match=r"unauthenticated|asks who calls"):
        spark.read.format(connector).options(url=url, stream="numbers", tlsCa=ways["tls_ca"]).load().collect()


def test_a_clients_own_ways_go_with_it_to_the_executors_but_never_a_token(
    secured: tuple[str, dict[str, str], Tokens], numbers: Callable[..., DataFrame]
) -> None:
    url, ways, tokens = secured

    def start(client: bowstring.Client) -> Any:
        return from_spark_streaming(numbers(100), "numbers", trigger={"availableNow": True}, coordinator=client)

    token = tokens.file_of("spark").read_text().strip()
    with pytest.raises(bowstring.InvalidArgument, match="token_file="):
        start(bowstring.connect(url, tls_ca=ways["tls_ca"], token=token))
    iterator, query = start(bowstring.connect(url, **ways))
    assert sum(batch.num_rows for batch in iterator) == 100
    query.awaitTermination()
