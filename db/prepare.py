"""Migrates the database and creates the bucket: ``python -m db.prepare``."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

from alembic import command
from alembic.config import Config

from db.objects.storage import Storage
from db.private_files import keep_files_private
from db.search import meanings
from db.settings import Settings, get_settings
from db.tenant_role import TenantRoleError, ensure_tenant_role

MIGRATIONS = Path(__file__).parent.parent / "migrations"


def alembic_config(database_url: str) -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["database_url"] = database_url
    return config


def prepare(settings: Settings) -> None:
    """Idempotent. Several processes may run it at once. Raises TenantRoleError."""
    command.upgrade(alembic_config(settings.database_url), "head")
    if settings.semantic_search:
        meanings.create(settings.database_url)
    ensure_tenant_role(settings.database_url)
    Storage(settings).ensure_bucket()


if __name__ == "__main__":
    keep_files_private()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        prepare(get_settings())
    except TenantRoleError as error:
        sys.exit(str(error))
