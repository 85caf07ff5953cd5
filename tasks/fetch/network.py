"""Connections that reach public addresses alone, whatever a name, a redirect or a server says.

A name is resolved once, each address is checked, and the connection goes to the very address that was checked,
so that a name which resolves to something else a moment later gains nothing. TLS still checks the name.
"""

from __future__ import annotations

import ipaddress
import logging
import socket
import ssl
import time
from collections.abc import Iterable, Sequence

import httpcore
import httpx

from tasks.errors import Permanent

# it logs whole URLs, which may hold credentials
logging.getLogger("httpx").setLevel(logging.WARNING)

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
SocketOptions = Iterable[httpcore.SOCKET_OPTION]

NOT_PUBLIC = (
    ipaddress.ip_network("192.0.0.0/24"),
    # looks public, and is the agent of a cloud's host
    ipaddress.ip_network("168.63.129.16/32"),
)
"""What the standard library does not count as private everywhere."""

NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


def may_connect(address: str, private: Sequence[Network] = ()) -> bool:
    """Whether the address is public, or in a network that the settings allow.

    An IPv6 address that stands for an IPv4 one is what it stands for.
    """
    parsed = _meant(ipaddress.ip_address(address.partition("%")[0]))
    if any(parsed in network for network in private):
        return True
    if any(parsed in network for network in NOT_PUBLIC):
        return False
    site_local = isinstance(parsed, ipaddress.IPv6Address) and parsed.is_site_local
    return parsed.is_global and not (parsed.is_multicast or parsed.is_reserved or site_local)


def _meant(address: Address) -> Address:
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address in NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    teredo = address.teredo[1] if address.teredo else None
    return address.ipv4_mapped or address.sixtofour or teredo or address


class GuardedBackend(httpcore.SyncBackend):
    """Opens the connections of one fetch, which all end at its deadline."""

    def __init__(self, private: Sequence[Network], deadline: float) -> None:
        """``deadline`` in monotonic seconds."""
        self._private, self._deadline = private, deadline

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: SocketOptions | None = None,
    ) -> httpcore.NetworkStream:
        """Raises Permanent if no address of the host may be connected to."""
        found = _resolve(host, port)
        allowed = [address for address in found if may_connect(address, self._private)]
        if not allowed:
            raise not_allowed("The address leads to a private network, which this server does not connect to.")
        failure: Exception | None = None
        for address in allowed:
            try:
                stream = super().connect_tcp(
                    address, port, remaining(self._deadline, timeout), local_address, socket_options
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
            else:
                return _DeadlineStream(stream, self._deadline)
        raise failure or httpcore.ConnectError(f"{host} has no address")

    def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: SocketOptions | None = None
    ) -> httpcore.NetworkStream:
        raise not_allowed("Sockets of this machine are not fetched from.")


def _resolve(host: str, port: int) -> list[str]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        raise httpcore.ConnectError(f"{host} is not known: {error.strerror}") from error
    except (UnicodeError, OverflowError):
        raise not_allowed("The address names no host.") from None
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def remaining(deadline: float, timeout: float | None) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise httpcore.ReadTimeout("the time for the whole fetch is over")
    return left if timeout is None else min(timeout, left)


class _DeadlineStream(httpcore.NetworkStream):
    """A stream none of whose reads and writes outlasts the deadline: also a head of a byte a second ends."""

    def __init__(self, stream: httpcore.NetworkStream, deadline: float) -> None:
        self._stream, self._deadline = stream, deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, remaining(self._deadline, timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, remaining(self._deadline, timeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        left = remaining(self._deadline, timeout)
        return _DeadlineStream(self._stream.start_tls(ssl_context, server_hostname, left), self._deadline)

    def get_extra_info(self, info: str) -> object:
        return self._stream.get_extra_info(info)


class GuardedTransport(httpx.HTTPTransport):
    """HTTP over a guarded backend. No proxy of the environment is asked: it would do the connecting."""

    def __init__(self, backend: GuardedBackend) -> None:
        context = httpx.create_ssl_context()
        super().__init__(verify=context, trust_env=False)
        self._pool = httpcore.ConnectionPool(
            ssl_context=context, network_backend=backend, max_connections=1, max_keepalive_connections=0
        )


def not_allowed(message: str) -> Permanent:
    return Permanent("url_not_allowed", message)
