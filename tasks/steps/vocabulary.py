"""The vocabulary of tenants, as alignment and refinement use it."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy.orm import Session

from db import vocabulary
from speech.text.vocabulary import Term, Vocabulary


def of_tenants(session: Session, tenants: Collection[str]) -> dict[str, Vocabulary]:
    terms: dict[str, list[Term]] = {tenant: [] for tenant in tenants}
    for row in vocabulary.accepted(session, tenants):
        terms[row.tenant].append(Term(row.term, tuple(row.sounds_like), row.language))
    return {tenant: Vocabulary(theirs) for tenant, theirs in terms.items()}
