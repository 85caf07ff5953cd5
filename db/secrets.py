"""What is encrypted at rest by a key of the settings: signing keys of tokens, and originals of redacted text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

if TYPE_CHECKING:
    from db.settings import Settings

SEALED, PLAIN = b"f:", b"p:"


class SecretsLocked(Exception):
    """Something was encrypted with a key that LONGHAND_SECRET_KEY does not have."""


def read_keys(text: str | None) -> list[Fernet]:
    """The keys in a setting, the newest first. Raises ValueError if one is not of Fernet."""
    try:
        return [Fernet(key.strip()) for key in (text or "").split(",") if key.strip()]
    except ValueError as error:
        raise ValueError(
            f"{error} LONGHAND_SECRET_KEY is a key of Fernet, or several with commas, the newest first."
        ) from None


class Secrets:
    """Seals with the first key of ``LONGHAND_SECRET_KEY``, opens with any; without one it seals nothing."""

    def __init__(self, settings: Settings) -> None:
        """Raises ValueError."""
        keys = read_keys(settings.secret_key)
        self._fernet = MultiFernet(keys) if keys else None

    @property
    def can_seal(self) -> bool:
        return self._fernet is not None

    def seal(self, data: bytes) -> bytes:
        """The data encrypted; where there is no key, marked as it is."""
        return PLAIN + data if self._fernet is None else SEALED + self._fernet.encrypt(data)

    def open(self, sealed: bytes) -> bytes:
        """Raises SecretsLocked."""
        if sealed.startswith(PLAIN):
            return sealed[len(PLAIN) :]
        try:
            if self._fernet is not None:
                return self._fernet.decrypt(sealed.removeprefix(SEALED))
        except InvalidToken:
            pass
        raise SecretsLocked("What is stored was encrypted with another key than LONGHAND_SECRET_KEY has.")
