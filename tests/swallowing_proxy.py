"""A TCP proxy that passes bytes on, or takes them and says nothing: a partition that nobody is told of."""

from __future__ import annotations

import contextlib
import socket
import threading


class SwallowingProxy:
    """Stands before a port of loopback. ``swallow()``: connections stay open, and no byte goes through."""

    def __init__(self, port: int) -> None:
        self._target = ("127.0.0.1", port)
        self._passing = threading.Event()
        self._passing.set()
        self._open: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def swallow(self) -> None:
        self._passing.clear()

    def heal(self) -> None:
        """Pass bytes again. Connections of before are cut: their bytes were lost."""
        self._passing.set()
        for connection in list(self._open):
            _close(connection)

    def close(self) -> None:
        _close(self._listener)
        self.heal()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                try:
                    server = socket.create_connection(self._target)
                except OSError:
                    _close(client)
                    continue
                self._open |= {client, server}
                for source, sink in ((client, server), (server, client)):
                    threading.Thread(target=self._carry, args=(source, sink), daemon=True).start()

    def _carry(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while piece := source.recv(65536):
                if self._passing.is_set():
                    sink.sendall(piece)
        for end in (source, sink):
            self._open.discard(end)
            _close(end)


def _close(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()
