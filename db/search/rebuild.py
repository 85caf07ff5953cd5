"""Makes what search finds anew from the segments: ``python -m db.search.rebuild``. May run beside everything else.

For transcripts that workers of a version before search wrote after the migration.
"""

from __future__ import annotations

import logging

from sqlalchemy import select

from db import jobs
from db.models import Job, StoredSegment
from db.queue.transaction import JobGone, job_transaction
from db.search.refresh import refresh
from db.session import Sessions, make_sessions
from db.settings import get_settings

logger = logging.getLogger(__name__)


def rebuild(sessions: Sessions) -> int:
    """Returns the number of transcripts. Drafts stay as they are."""
    shown = select(Job.id).where(Job.deleted_at.is_(None), jobs.IS_TRANSCRIPTION)
    with sessions() as session:
        found = session.scalars(shown.order_by(Job.created_at)).all()
    done = 0
    for job_id in found:
        try:
            with job_transaction(sessions, job_id) as tx:
                final = select(StoredSegment.chunk).where(StoredSegment.job_id == job_id).distinct()
                refresh(tx.session, tx.job, tx.session.scalars(final).all(), soon=False)
            done += 1
        except JobGone:
            continue
    return done


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logger.info("%d transcripts are found as they are now", rebuild(make_sessions(get_settings(), name="rebuild")))
