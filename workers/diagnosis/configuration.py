"""Settings that are valid, and of no use here."""

from __future__ import annotations

import os
from collections.abc import Iterator

from db.settings import Settings
from tasks.fetch import pages
from workers.diagnosis.finding import Finding, broken, ok, warning

ELSEWHERE = {"URL", "KEY", "API_PORT", "POSTGRES_PORT", "REDIS_PORT", "S3_PORT"}
"""Variables of the command line, which are no settings."""


def check_settings(settings: Settings) -> Iterator[Finding]:
    found = [*_unknown(), *_broken(settings), *_doubtful(settings)]
    yield from found
    if not found:
        yield ok("settings", f"{len(settings.model_fields_set)} are set, and go together")


def _unknown() -> Iterator[Finding]:
    known = {name.upper() for name in Settings.model_fields} | ELSEWHERE
    for variable in sorted(os.environ):
        if variable.startswith("LONGHAND_") and variable.removeprefix("LONGHAND_") not in known:
            yield warning(
                "settings", f"there is no setting {variable}", "Correct its name; docs/settings.md has all."
            )


def _broken(settings: Settings) -> Iterator[Finding]:
    if settings.torch_python is not None and not settings.torch_python.exists():
        yield broken("settings", f"there is no {settings.torch_python}", "Correct LONGHAND_TORCH_PYTHON.")
    if settings.local_folder is not None and not settings.local_folder.is_dir():
        yield broken("settings", f"there is no folder {settings.local_folder}", "Correct LONGHAND_LOCAL_FOLDER.")
    if settings.fetch_pages and not pages.installed():
        advice = "Run `pip install 'longhand[pages]'` where workers of the queue io are, or unset it."
        yield broken("settings", "LONGHAND_FETCH_PAGES is set, and yt-dlp is not installed", advice)


def _doubtful(settings: Settings) -> Iterator[Finding]:
    if settings.training_tenants and settings.torch_python is None:
        advice = "Set LONGHAND_TORCH_PYTHON (`make exports` has one), or tune elsewhere."
        yield warning("settings", "exports are made, and nothing here can tune on them", advice)
    whole, audio, events = settings.retain_days, settings.retain_audio_days, settings.retain_events_days
    for name, days in (("AUDIO", audio), ("EVENTS", events)):
        if whole is not None and days is not None and days > whole:
            advice = (
                f"LONGHAND_RETAIN_{name}_DAYS does nothing: LONGHAND_RETAIN_DAYS removes the whole job before."
            )
            yield warning("settings", f"{days:g} days are more than {whole:g}", advice)
    for name in ("uploads", "waiting_hours"):
        share, total = getattr(settings, f"max_tenant_{name}"), getattr(settings, f"max_{name}")
        if share is not None and share > total:
            advice = f"LONGHAND_MAX_TENANT_{name.upper()} does nothing above LONGHAND_MAX_{name.upper()}."
            yield warning("settings", f"a tenant's share of {share} is more than all of {total}", advice)
    if settings.api_keys and settings.secret_key is None:
        advice = "Set LONGHAND_SECRET_KEY, so that a copy of the database signs no tokens."
        yield warning("settings", "keys that sign tokens are not encrypted in the database", advice)
