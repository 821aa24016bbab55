"""The states that the alerts on TLS and the audit log are for, made for real."""

from __future__ import annotations

import shutil
import socket
from pathlib import Path

import bowstring

from ..support import Served
from .states import Labels, Sick

#: A disk that takes nothing: each decision that is to be written down is lost.
FULL = "/dev/full"


def insecure(sick: Sick, served: Served, cert: Path) -> dict[str, Labels]:
    """Each alert and its labels, of a coordinator with a certificate of two days and its audit log on `FULL`."""
    instance = {"instance": served.http_address}
    ca = cert.with_suffix(".ca")
    shutil.copy(cert, ca)
    client = bowstring.connect(f"grpc+tls://{served.address}", tls_ca=str(ca), local_socket=False)
    sick.again_and_again(lambda _: client.list_streams())

    def speak_plainly(_: int) -> None:
        host, port = served.address.split(":")
        with socket.create_connection((host, int(port)), timeout=10) as plain:
            plain.sendall(b"GET / HTTP/1.1\r\n\r\n")
            plain.recv(100)

    sick.again_and_again(speak_plainly, 0.05)
    sick.again_and_again(lambda number: cert.write_text(f"no certificate, for the {number}th time"), 1)
    return {
        "BowstringCertificateEnds": instance,
        "BowstringCertificateNotRead": instance,
        "BowstringConnectionsRefused": {**instance, "reason": "not_tls"},
        "BowstringAuditDropped": instance,
    }
