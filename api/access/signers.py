"""The keys by which this process signs and checks tokens."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from jwt.algorithms import OKPAlgorithm

from db.models import SigningKey
from db.secrets import Secrets, SecretsLocked

logger = logging.getLogger(__name__)

CACHED = timedelta(minutes=5)
"""How long other services and proxies may keep the public halves."""

ANNOUNCED = CACHED + timedelta(minutes=1)
"""A key signs only when it is older: every process and service has seen it by then."""


@dataclass(frozen=True, slots=True)
class Signer:
    kid: str
    private: Ed25519PrivateKey


class Signers:
    """A copy in memory, like that of keys: an unknown ``kid`` asks no database."""

    def __init__(self, secrets: Secrets) -> None:
        self._secrets = secrets
        self._rows: dict[str, SigningKey] = {}
        self._private: dict[str, Ed25519PrivateKey] = {}
        self._locked: set[str] = set()

    def update(self, rows: Sequence[SigningKey]) -> None:
        private: dict[str, Ed25519PrivateKey] = {}
        for row in rows:
            known = self._private.get(row.kid)
            try:
                private[row.kid] = known or Ed25519PrivateKey.from_private_bytes(
                    self._secrets.open(row.private_key)
                )
            except (SecretsLocked, ValueError) as error:
                if row.kid not in self._locked:
                    self._locked.add(row.kid)
                    logger.error(
                        "signing key %s: %s If that is lost, delete the row of signing_keys; another is made.",
                        row.kid,
                        error,
                    )
        self._rows, self._private = {row.kid: row for row in rows}, private

    def seal(self, private_key: bytes) -> bytes:
        """As it is stored."""
        return self._secrets.seal(private_key)

    def current(self) -> Signer | None:
        """The key that signs: the youngest that has been announced, or the first there is."""
        now = datetime.now(UTC)
        usable = [
            row
            for row in self._rows.values()
            if row.kid in self._private and (row.retired_at is None or row.retired_at > now)
        ]
        announced = [row for row in usable if row.created_at < now - ANNOUNCED]
        chosen = max(announced, key=lambda row: row.created_at) if announced else next(iter(usable), None)
        return None if chosen is None else Signer(chosen.kid, self._private[chosen.kid])

    def public(self, kid: str) -> Ed25519PublicKey | None:
        found = self._private.get(kid)
        return None if found is None else found.public_key()

    def jwks(self) -> dict[str, list[dict[str, Any]]]:
        """The public halves (RFC 7517)."""
        return {
            "keys": [
                OKPAlgorithm.to_jwk(key.public_key(), as_dict=True) | {"kid": kid, "alg": "EdDSA", "use": "sig"}
                for kid, key in self._private.items()
            ]
        }
