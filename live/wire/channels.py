"""Connections to stages: addresses, and mutual TLS."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from urllib.parse import urlsplit

import grpc

MAX_MESSAGE_BYTES = 1024 * 1024
"""A little more than thirty seconds of 16 kHz PCM."""

_PING_MS = 10_000
"""Between two pings of a silent connection: a peer that is frozen or cut off is noticed by them."""
_PING_TIMEOUT_MS = 5_000

_CHANNEL_OPTIONS = (
    ("grpc.keepalive_time_ms", _PING_MS),
    ("grpc.keepalive_timeout_ms", _PING_TIMEOUT_MS),
    ("grpc.http2.max_pings_without_data", 0),
    # a server that was started again is found at once
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    # a name may stand for several servers
    ("grpc.lb_policy_name", "round_robin"),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    # every stage has its own connections: subchannels of a process are shared otherwise, backoff included
    ("grpc.use_local_subchannel_pool", 1),
)
SERVER_OPTIONS = (
    ("grpc.http2.min_ping_interval_without_data_ms", _PING_MS // 2),
    ("grpc.http2.max_ping_strikes", 0),
    ("grpc.keepalive_time_ms", _PING_MS),
    ("grpc.keepalive_timeout_ms", _PING_TIMEOUT_MS),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    # two servers on one port would each get some of the calls
    ("grpc.so_reuseport", 0),
)


class BadAddress(ValueError):
    """A stage's URL cannot be used. The message says what it has to look like."""


@dataclass(frozen=True, slots=True)
class Identity:
    """PEM files by which the two ends of a connection know each other."""

    ca: Path | None = None
    """The authorities that the other end's certificate is checked against."""
    certificate: Path | None = None
    key: Path | None = None

    def channel_credentials(self) -> grpc.ChannelCredentials:
        """Without a CA of its own, the system's are believed."""
        return grpc.ssl_channel_credentials(_read(self.ca), _read(self.key), _read(self.certificate))

    def server_credentials(self) -> grpc.ServerCredentials | None:
        """Callers need a certificate of the same CA; None where there is no certificate to show."""
        key, certificate = _read(self.key), _read(self.certificate)
        if key is None or certificate is None:
            return None
        return grpc.ssl_server_credentials(
            [(key, certificate)], root_certificates=_read(self.ca), require_client_auth=self.ca is not None
        )


class Peer:
    """The server of a stage at ``grpc://host:port``, or at ``grpcs://host:port`` with TLS."""

    def __init__(self, url: str, identity: Identity) -> None:
        """Raises BadAddress; OSError where the identity's files cannot be read."""
        parts = urlsplit(url)
        if parts.scheme not in ("grpc", "grpcs") or not parts.port or parts.path.strip("/"):
            raise BadAddress(
                f"{url!r} is no address of a stage; it looks like grpc://host:port, or grpcs://host:port for TLS"
            )
        self.url = url
        self._target = parts.netloc
        self._credentials = identity.channel_credentials() if parts.scheme == "grpcs" else None

    @cached_property
    def channel(self) -> grpc.aio.Channel:
        """Belongs to the event loop that asks for it first. Connects when it is used, and again when it has to."""
        if self._credentials is None:
            return grpc.aio.insecure_channel(self._target, options=_CHANNEL_OPTIONS)
        return grpc.aio.secure_channel(self._target, self._credentials, options=_CHANNEL_OPTIONS)

    async def close(self) -> None:
        await self.channel.close()


def _read(path: Path | None) -> bytes | None:
    return None if path is None else path.read_bytes()
