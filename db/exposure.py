"""Who can reach a process that listens: nothing answers beyond this machine without asking who calls."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from ipaddress import ip_address

from db.settings import Settings


class Exposed(Exception):
    """A process was to listen beyond this machine without credentials. The message says what to set."""


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address. A name other than localhost may stand for anything."""
    if host.lower() == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def check_api(settings: Settings, host: str, has_keys: Callable[[], bool] = lambda: False) -> None:
    """Raises Exposed. ``has_keys``: whether keys were made in the database."""
    asks = settings.api_keys or settings.oidc_issuer
    if not asks and not is_loopback(host) and not has_keys():
        raise Exposed(
            f"The API does not listen on {host or 'every address'} without API keys: set LONGHAND_API_KEYS to "
            'a JSON object {"key": "tenant"}, or use --host 127.0.0.1.'
        )


def check_stage(settings: Settings, host: str) -> None:
    """Raises Exposed."""
    if not (settings.stage_ca and settings.stage_certificate) and not is_loopback(host):
        raise Exposed(
            f"A stage does not listen on {host or 'every address'} without mutual TLS: set LONGHAND_STAGE_CA, "
            "LONGHAND_STAGE_CERTIFICATE and LONGHAND_STAGE_KEY, or use --host 127.0.0.1."
        )


def has_flower_credentials(environment: Mapping[str, str]) -> bool:
    """Whether Flower will ask for a password, or for an account by OAuth."""
    accounts = [account.partition(":") for account in environment.get("FLOWER_BASIC_AUTH", "").split(",")]
    return all(user and password for user, _, password in accounts) or bool(environment.get("FLOWER_AUTH"))


def check_flower(environment: Mapping[str, str], host: str) -> None:
    """Raises Exposed."""
    if not has_flower_credentials(environment) and not is_loopback(host):
        raise Exposed(
            f"Flower does not listen on {host or 'every address'} without credentials: set "
            "FLOWER_BASIC_AUTH=USER:PASSWORD, or use 127.0.0.1."
        )


def check_metrics(settings: Settings) -> None:
    """Raises Exposed where others than this machine could read the metrics of a process without a token."""
    host = settings.metrics_host
    if settings.metrics_port is not None and settings.metrics_token is None and not is_loopback(host):
        raise Exposed(
            f"Metrics are not served on {host or 'every address'} without a token: set LONGHAND_METRICS_TOKEN, or "
            "LONGHAND_METRICS_HOST=127.0.0.1."
        )
