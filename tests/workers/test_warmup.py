"""Workers start without the models behind HTTP that they ask, but not with a file that is not valid."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from db.settings import Settings
from speech.engines import EngineUnavailable
from tasks.engines import Engines
from tasks.training.versions import VersionCache
from tests.http_engines.server import vllm
from workers.warmup import look_at_models


def no_versions() -> VersionCache:
    raise AssertionError("nothing is drafted here")


def engines_with(file: Path) -> Engines:
    return Engines(Settings(endpoints=file, refine_engine="http"), no_versions)


def test_models_that_are_away_at_the_start(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    file = tmp_path / "endpoints.toml"
    with vllm() as dead:
        pass
    with vllm(models=["there"]) as server:
        away = f'[[model]]\nname = "away"\nhosts = ["{dead.url}"]\n'
        file.write_text(f'{away}[[model]]\nname = "there"\nhosts = ["{server.url}"]\n')
        engines = engines_with(file)
        look_at_models(engines)
    assert engines.refiner().info.model == "away"
    levels = {record.getMessage().split()[0]: record.levelno for record in caplog.records}
    assert (levels["away"], levels["there"]) == (logging.WARNING, logging.INFO)


def test_a_file_that_is_not_valid(tmp_path: Path) -> None:
    file = tmp_path / "endpoints.toml"
    file.write_text('[[model]]\nname = "a"')
    with pytest.raises(EngineUnavailable, match=r"\[\[model\]\] 1, hosts: Field required"):
        look_at_models(engines_with(file))
