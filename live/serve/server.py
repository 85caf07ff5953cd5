"""A gRPC server for one stage: health, mutual TLS, and an end that costs nobody a word."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer

from live.serve.sessions import Sessions
from live.wire.channels import SERVER_OPTIONS, Identity

logger = logging.getLogger(__name__)

READY_LINE = "takes sessions"
"""In the log once the server listens."""


async def serve(
    stage: str,
    register: Callable[[grpc.aio.Server], None],
    sessions: Sessions,
    *,
    address: str,
    identity: Identity,
    drain_seconds: float,
) -> None:
    """Serve until SIGTERM or SIGINT. Then nobody is admitted, and who is there has ``drain_seconds`` to leave.

    Raises OSError where the address cannot be listened on.
    """
    server = grpc.aio.server(options=SERVER_OPTIONS)
    register(server)
    health = HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    credentials = identity.server_credentials()
    try:
        port = server.add_secure_port(address, credentials) if credentials else server.add_insecure_port(address)
    except RuntimeError as error:
        raise OSError(f"{address} cannot be listened on") from error
    told_to_stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, told_to_stop.set)
    await server.start()
    await health.set("", health_pb2.HealthCheckResponse.SERVING)
    logger.info("%s %s at port %d", stage, READY_LINE, port)
    await told_to_stop.wait()
    logger.info("%s stops; %d sessions have %g s", stage, sessions.count, drain_seconds)
    sessions.draining = True
    await health.enter_graceful_shutdown()
    await server.stop(drain_seconds)
