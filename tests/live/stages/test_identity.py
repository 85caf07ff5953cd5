"""Stages and gateways know each other by certificates, where there are any."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from cli.stack.process import HOST
from db.exposure import Exposed, check_stage
from db.settings import Settings
from live.stages import StageDead
from live.wire.channels import BadAddress, Identity, Peer
from tests.live.stages.clients import START, hear, recognizer
from tests.live.stages.servers import StageServer, running
from tests.tls import Authority


def identity(authority: Authority, name: str) -> Identity:
    """Of somebody whom the authority vouches for."""
    authority.context(name)
    stem = authority.folder / name.replace(":", "-")
    return Identity(authority.certificate, stem.with_name(f"{stem.name}.pem"), stem.with_name(f"{stem.name}.key"))


def test_only_who_has_a_certificate_is_served(tmp_path: Path) -> None:
    ours = identity(Authority.make(tmp_path / "ours"), f"IP:{HOST}")
    theirs = identity(Authority.make(tmp_path / "theirs"), f"IP:{HOST}")
    options = ("--identity", *map(str, (ours.ca, ours.certificate, ours.key)))

    async def run(url: str) -> None:
        assert (await hear(recognizer(url, identity=ours), [[1, 2, 3]])).words == [[1, 2, 3]]
        # of another authority, without a certificate, and who expects another authority
        strangers = [replace(theirs, ca=ours.ca), Identity(ours.ca), replace(ours, ca=theirs.ca)]
        for stranger in strangers:
            with pytest.raises(StageDead):
                await recognizer(url, identity=stranger).open(START)
        with pytest.raises(StageDead):
            await recognizer(url.replace("grpcs", "grpc")).open(START)

    with running(StageServer(tmp_path, *options)) as server:
        asyncio.run(run(server.url.replace("grpc", "grpcs")))


@pytest.mark.parametrize(
    "url", ["127.0.0.1:1", "http://127.0.0.1:1", "grpc://127.0.0.1", "grpc://127.0.0.1:1/asr", ""]
)
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(BadAddress, match="grpc://host:port"):
        Peer(url, Identity())


def test_a_stage_is_not_exposed_without_certificates(tmp_path: Path) -> None:
    with pytest.raises(Exposed, match="LONGHAND_STAGE_CA"):
        check_stage(Settings(), "0.0.0.0")
    check_stage(Settings(), HOST)
    check_stage(Settings(stage_ca=tmp_path, stage_certificate=tmp_path, stage_key=tmp_path), "0.0.0.0")
    with pytest.raises(ValueError, match="goes with"):
        Settings(stage_certificate=tmp_path)
