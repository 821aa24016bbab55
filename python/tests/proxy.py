"""A TCP proxy between two of the parties, which is cut and heals."""

from __future__ import annotations

import socket
import struct
from contextlib import suppress
from threading import Event, Lock, Thread

#: Closing with this sends a reset: the other side learns of it at once, whatever was under way is gone.
_RESET = struct.pack("ii", 1, 0)


class Proxy:
    """Listens on a free port and passes on to `target`, another `host:port`, what comes in.

    As it is cut every connection is reset, new ones too, until it heals. Answers can be held on their own: what is
    asked gets through, and the one who has asked never hears of it.
    """

    def __init__(self, target: str) -> None:
        host, _, port = target.rpartition(":")
        self._target = (host, int(port))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"grpc://127.0.0.1:{self._listener.getsockname()[1]}"
        self._lock = Lock()
        self._sockets: list[socket.socket] = []
        self._is_cut = False
        self._answers = Event()
        self._answers.set()
        #: Connections that came while it was cut.
        self.refused = 0
        #: Whether an answer has come since they are held.
        self.holds = False
        Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Resets all connections, and from now on each new one. What was held is gone."""
        with self._lock:
            self._is_cut = True
            sockets, self._sockets = self._sockets, []
        for one in sockets:
            _reset(one)

    def heal(self) -> None:
        """Lets connections through again."""
        with self._lock:
            self._is_cut = False
        self._answers.set()

    def hold_answers(self) -> None:
        """Keeps back what the target says, until the proxy is cut or heals."""
        self.holds = False
        self._answers.clear()

    def close(self) -> None:
        """Ends it for good."""
        self.cut()
        self._listener.close()
        self._answers.set()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                self._connect(self._listener.accept()[0])

    def _connect(self, asking: socket.socket) -> None:
        try:
            answering = socket.create_connection(self._target, 10)
        except OSError:
            _reset(asking)
            return
        answering.settimeout(None)
        with self._lock:
            if is_cut := self._is_cut:
                self.refused += 1
            else:
                self._sockets += [asking, answering]
        if is_cut:
            _reset(asking)
            _reset(answering)
            return
        for way in ((asking, answering, False), (answering, asking, True)):
            Thread(target=self._pass_on, args=way, daemon=True).start()

    def _pass_on(self, source: socket.socket, to: socket.socket, is_answer: bool) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                if is_answer and not self._answers.is_set():
                    self.holds = True
                    self._answers.wait()
                to.sendall(data)
        # Half of a connection is of no use to HTTP/2.
        _reset(source)
        _reset(to)


def _reset(one: socket.socket) -> None:
    with suppress(OSError):
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        one.shutdown(socket.SHUT_RDWR)
    one.close()
