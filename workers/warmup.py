"""Loads the engines of a queue before its first step, so that a missing model is found at the start."""

from __future__ import annotations

import logging

from http_engines.errors import InvalidEndpoints
from http_engines.look import State, survey
from speech.engines import EngineInfo, EngineUnavailable
from tasks.engines import Engines
from tasks.runtime import get_runtime

logger = logging.getLogger(__name__)


def warm_up(queue: str) -> None:
    """Raises EngineUnavailable, with one sentence, if an engine of the queue cannot load."""
    runtime = get_runtime()
    if queue == "cpu":
        runtime.engines.vad.stream()
        runtime.decoder.start()
        _log_engine("draft", runtime.engines.drafter().info)
        look_at_models(runtime.engines)
    elif queue == "gpu":
        _log_engine("refine", runtime.engines.refiner().info)
        look_at_models(runtime.engines)
        if runtime.settings.diarize:
            _log_engine("diarize", runtime.engines.diarizer().info)
            _log_engine("voices", runtime.engines.embedder().info)


def look_at_models(engines: Engines) -> None:
    """Whether the hosts of models behind HTTP answer; a worker starts without them. Raises EngineUnavailable."""
    try:
        endpoints = engines.remote.file.read()
    except InvalidEndpoints as error:
        raise EngineUnavailable(f"{error}.") from error
    for name, hosts in survey(endpoints).items():
        for host, seen in hosts.items():
            level = logging.INFO if seen.state is State.OK else logging.WARNING
            logger.log(level, "%s at %s: %s", name, host, seen.found)


def _log_engine(role: str, info: EngineInfo) -> None:
    stand_in = f" in place of {info.instead_of}" if info.instead_of else ""
    logger.info("%s: %s %s on %s (%s)%s", role, info.engine, info.model, info.device, info.compute_type, stand_in)
