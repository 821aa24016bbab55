"""TLS in Python: the embedded coordinator, clients, iterators that travel, stock Flight clients, what is refused."""

from __future__ import annotations

import pickle
from pathlib import Path

import pyarrow as pa
import pyarrow.flight
import pytest

import bowstring


def test_clients_iterators_and_stock_flight_clients_speak_tls(certificate: tuple[str, str]) -> None:
    cert, key = certificate
    batch = pa.record_batch({"n": [1, 2, 3]})
    with bowstring.StreamCoordinator(tls_cert=cert, tls_key=key) as coordinator:
        assert coordinator.url.startswith("grpc+tls://127.0.0.1:")
        assert str(coordinator.http_url).startswith("https://127.0.0.1:")
        # Not within the process, and not by the Unix socket.
        client = bowstring.connect(coordinator.url, local_socket=False, tls_ca=cert)
        with client.producer("s") as producer:
            producer.append(batch)
        client.complete_stream("s")
        again = pickle.loads(pickle.dumps(client))
        assert again.describe_stream("s")["stream"] == "s"
        stock = pa.flight.connect(coordinator.url, tls_root_certs=Path(cert).read_bytes())
        info = stock.get_flight_info(pa.flight.FlightDescriptor.for_path("s"))
        assert stock.do_get(info.endpoints[0].ticket).read_all().to_pydict() == {"n": [1, 2, 3]}
        iterator = pickle.loads(pickle.dumps(client.iterator("s")))
        assert [one.to_pydict() for one in iterator] == [{"n": [1, 2, 3]}]
        assert coordinator.client().describe_stream("s")["stream"] == "s"


def test_what_cannot_be_had_says_at_once_what_to_do(certificate: tuple[str, str]) -> None:
    cert, key = certificate
    with bowstring.StreamCoordinator(tls_cert=cert, tls_key=key, http=None) as coordinator:
        url = coordinator.url
        with pytest.raises(bowstring.Unavailable, match="tls_ca") as raised:
            bowstring.connect(url, local_socket=False)
        assert not raised.value.retryable
        with pytest.raises(bowstring.Unavailable, match="takes TLS only"):
            bowstring.connect(url.replace("+tls", ""), local_socket=False).get_stats()
        with pytest.raises(bowstring.InvalidArgument, match="plain"):
            bowstring.connect(url.replace("+tls", ""), tls_ca=cert, local_socket=False)
    with pytest.raises(bowstring.InvalidArgument, match="needs tls_key"):
        bowstring.StreamCoordinator(tls_cert=cert)


def test_addresses_that_others_reach_are_refused_without_tls(certificate: tuple[str, str]) -> None:
    with pytest.raises(bowstring.InvalidArgument, match="insecure"):
        bowstring.StreamCoordinator(listen="0.0.0.0:0")
    with pytest.raises(bowstring.InvalidArgument, match="http is 0"):
        bowstring.StreamCoordinator(http="0.0.0.0:0")
    bowstring.StreamCoordinator(listen="0.0.0.0:0", insecure=True).stop()
    bowstring.StreamCoordinator(listen="0.0.0.0:0", tls_cert=certificate[0], tls_key=certificate[1]).stop()
