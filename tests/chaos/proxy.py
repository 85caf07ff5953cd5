"""A TCP proxy that fails on request: it refuses, resets within a message, or hangs without closing."""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import threading
import time
from dataclasses import dataclass

HOST = "127.0.0.1"
BLOCK_BYTES = 64 * 1024


@dataclass(eq=False)
class Connection:
    client: socket.socket
    server: socket.socket
    hung: bool = False
    reset_after: int | None = None
    """Bytes still to be forwarded before both sides are reset."""

    def reset(self) -> None:
        for side in (self.client, self.server):
            with contextlib.suppress(OSError):
                # close() with a linger of zero seconds sends RST
                side.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            side.close()


class Proxy:
    """Listens on a port of its own and forwards to the port ``target``."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._listening = socket.create_server((HOST, 0), backlog=256)
        self.port = int(self._listening.getsockname()[1])
        self._connections: set[Connection] = set()
        self._lock = threading.Lock()
        self._refusing = False
        self._hanging = False
        self._closed = False
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._closed = True
        self._listening.close()
        self.reset()

    def refuse(self, *, on: bool) -> None:
        """Reset open connections, and close new ones at once."""
        self._refusing = on
        if on:
            self.reset()

    def hang(self, *, on: bool) -> None:
        """Forward nothing and close nothing. Connections that hung hang for ever, even after ``on=False``."""
        self._hanging = on
        if on:
            for connection in self._open():
                connection.hung = True

    def reset(self) -> None:
        for connection in self._open():
            connection.reset()

    def reset_within(self, count: int) -> None:
        """Reset every connection after ``count`` more bytes, which is within some message."""
        for connection in self._open():
            connection.reset_after = count

    def _open(self) -> list[Connection]:
        with self._lock:
            return list(self._connections)

    def _accept(self) -> None:
        while not self._closed:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            if self._refusing:
                client.close()
                continue
            try:
                server = socket.create_connection((HOST, self._target), timeout=2)
            except OSError:
                client.close()
                continue
            server.settimeout(None)
            connection = Connection(client, server, hung=self._hanging)
            with self._lock:
                self._connections.add(connection)
            threading.Thread(target=self._pump, args=(connection,), daemon=True).start()

    def _pump(self, connection: Connection) -> None:
        other = {connection.client: connection.server, connection.server: connection.client}
        try:
            while True:
                if connection.hung:
                    time.sleep(0.05)
                    if connection.client.fileno() < 0:
                        return
                    continue
                for side in select.select(list(other), [], [], 0.1)[0]:
                    data = side.recv(BLOCK_BYTES)
                    if not data:
                        return
                    if connection.hung:
                        continue  # dropped
                    if connection.reset_after is not None:
                        data = data[: connection.reset_after]
                        connection.reset_after -= len(data)
                    other[side].sendall(data)
                    if connection.reset_after == 0:
                        connection.reset()
                        return
        except (OSError, ValueError):
            pass  # either side is gone
        finally:
            for side in other:
                side.close()
            with self._lock:
                self._connections.discard(connection)
