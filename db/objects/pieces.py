"""Objects that hold a recording in pieces, each with a row, until they are put together."""

from __future__ import annotations

import logging

from sqlalchemy import Delete, Select
from sqlalchemy.exc import SQLAlchemyError

from db.objects import removal
from db.objects.storage import Storage, StorageError
from db.session import Sessions

logger = logging.getLogger(__name__)


def tidy(sessions: Sessions, storage: Storage, keys: Select[str], rows: Delete) -> None:
    """Delete the pieces, then the rows, without which nobody finds them.

    Does not raise: what cannot be deleted now, the sweep deletes.
    """
    try:
        if removal.is_held(sessions):
            logger.info("left for the sweep: a backup is under way")
            return
        with sessions() as session:
            found = session.scalars(keys).all()
        storage.delete(found)
        with sessions.begin() as session:
            session.execute(rows)
    except (*StorageError, SQLAlchemyError) as error:
        logger.warning("left behind for the sweep: %s", error)
