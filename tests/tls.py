"""Certificate authorities of our own, and a proxy that puts TLS before a server that has none."""

from __future__ import annotations

import contextlib
import socket
import ssl
import subprocess
import threading
from dataclasses import dataclass
from pathlib import Path

HOST = "127.0.0.1"
POSTGRES_SSL_REQUEST = bytes.fromhex("0000000804d2162f")
"""What a PostgreSQL client sends before TLS begins, and the server answers with S."""


def _openssl(*arguments: str | Path) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


@dataclass(frozen=True)
class Authority:
    """A self-made CA in a folder."""

    folder: Path

    @property
    def certificate(self) -> Path:
        return self.folder / "ca.pem"

    @property
    def key(self) -> Path:
        return self.folder / "ca.key"

    @classmethod
    def make(cls, folder: Path) -> Authority:
        folder.mkdir()
        made = cls(folder)
        _openssl(
            *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"),
            *("-subj", f"/CN=Longhand test CA {folder.name}", "-keyout", made.key, "-out", made.certificate),
        )
        return made

    def context(self, name: str = f"IP:{HOST}") -> ssl.SSLContext:
        """Of a server whose certificate we signed for a name."""
        stem = self.folder / name.replace(":", "-")
        key, request, certificate = (stem.with_name(f"{stem.name}.{kind}") for kind in ("key", "csr", "pem"))
        extensions = stem.with_name(f"{stem.name}.ext")
        extensions.write_text(f"subjectAltName={name}\n")
        _openssl(
            *("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
            *("-subj", "/CN=server", "-keyout", key, "-out", request),
        )
        _openssl(
            *("x509", "-req", "-in", request, "-CA", self.certificate, "-CAkey", self.key, "-CAcreateserial"),
            *("-days", "2", "-extfile", extensions, "-out", certificate),
        )
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificate, key)
        return context


class TlsProxy:
    """Takes TLS on a port of its own and passes on in plain what it carries."""

    def __init__(self, target: int, context: ssl.SSLContext, *, postgres: bool = False) -> None:
        self._target, self._context, self._postgres = target, context, postgres
        self._listening = socket.create_server((HOST, 0))
        self.port = int(self._listening.getsockname()[1])
        self.passed_on = 0
        """Connections whose client took our certificate."""
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            if self._postgres:
                if client.recv(8, socket.MSG_WAITALL) != POSTGRES_SSL_REQUEST:
                    return
                client.sendall(b"S")
            secured = self._context.wrap_socket(client, server_side=True)
            # with TLS 1.3 the client judges after our side is done: what it then sends shows that it agreed
            first = secured.recv(65536)
            if not first:
                return
            self.passed_on += 1
            with secured, socket.create_connection((HOST, self._target)) as server:
                server.sendall(first)
                threading.Thread(target=self._pump, args=(server, secured), daemon=True).start()
                self._pump(secured, server)

    @staticmethod
    def _pump(source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        for side in (source, sink):
            with contextlib.suppress(OSError):
                side.shutdown(socket.SHUT_RDWR)
