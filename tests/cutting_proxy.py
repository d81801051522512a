"""A TCP proxy before a real service that cuts or holds connections after so many bytes, and counts them."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Iterable
from typing import Self

RESET = struct.pack("ii", 1, 0)
CHUNK = 64 * 1024


class CuttingProxy:
    """Passes connections on to ``port``; when the bytes sent up in all reach one of ``cuts``, that connection
    is reset on both sides. At ``hold`` bytes nothing goes on until ``release``; ``held`` is set then.
    ``sent`` counts the bytes that clients sent up, ``made`` the cuts.
    """

    def __init__(self, port: int, cuts: Iterable[int] = (), hold: int | None = None) -> None:
        self._target = ("127.0.0.1", port)
        self._cuts = sorted(cuts)
        self._hold = hold
        self._lock = threading.Lock()
        self._released = threading.Event()
        self.held = threading.Event()
        self.sent = 0
        self.made = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *ended: object) -> None:
        self._listener.close()
        self.release()

    def release(self) -> None:
        """Let everything pass from here on."""
        self._released.set()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            with contextlib.suppress(OSError):
                server = socket.create_connection(self._target)
                threading.Thread(target=self._up, args=(client, server), daemon=True).start()
                threading.Thread(target=self._down, args=(server, client), daemon=True).start()
                continue
            client.close()

    def _up(self, client: socket.socket, server: socket.socket) -> None:
        try:
            cut = False
            while not cut and (piece := client.recv(CHUNK)):
                passed, cut = self._count(piece)
                server.sendall(piece[:passed])
                self._hold_on()
            if not cut:
                server.shutdown(socket.SHUT_WR)
                return
        except OSError:
            pass  # one side is gone: so is the other, below
        _reset(client)
        _reset(server)

    def _hold_on(self) -> None:
        if self._hold is not None and self.sent >= self._hold:
            self.held.set()
            self._released.wait()

    def _count(self, piece: bytes) -> tuple[int, bool]:
        """How much of a piece may pass, and whether the connection is cut after it."""
        with self._lock:
            if self._cuts and self.sent + len(piece) >= self._cuts[0]:
                passed = max(0, self._cuts.pop(0) - self.sent)
                self.sent += passed
                self.made += 1
                return passed, True
            self.sent += len(piece)
            return len(piece), False

    def _down(self, server: socket.socket, client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while piece := server.recv(CHUNK):
                client.sendall(piece)
        with contextlib.suppress(OSError):
            client.shutdown(socket.SHUT_WR)


def _reset(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        connection.shutdown(socket.SHUT_RDWR)
        connection.close()
