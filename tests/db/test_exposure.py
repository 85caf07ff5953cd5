"""Who may be reached from where."""

from __future__ import annotations

import pytest

from cli.stack.process import local_url
from db.exposure import Exposed, check_api, check_flower, has_flower_credentials, is_loopback
from db.settings import Settings

OTHERS_REACH = ["0.0.0.0", "", "::", "10.0.0.1", "fe80::1", "example.org", "localhost.example.org", "127.1.evil"]


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.10", "::1", "localhost", "LocalHost"])
def test_this_machine_alone(host: str) -> None:
    assert is_loopback(host)
    check_api(Settings(api_keys={}), host)
    check_flower({}, host)


@pytest.mark.parametrize("host", OTHERS_REACH)
def test_others_too(host: str) -> None:
    assert not is_loopback(host)
    with pytest.raises(Exposed, match="set LONGHAND_API_KEYS"):
        check_api(Settings(api_keys={}), host)
    with pytest.raises(Exposed, match="set FLOWER_BASIC_AUTH"):
        check_flower({}, host)
    check_api(Settings(api_keys={"key": "acme"}), host)
    check_flower({"FLOWER_BASIC_AUTH": "ada:secret"}, host)


@pytest.mark.parametrize("given", ["", "ada", "ada:", ":secret", "ada:secret,", "ada:secret,bob:"])
def test_flower_credentials_without_a_password_are_none(given: str) -> None:
    assert not has_flower_credentials({"FLOWER_BASIC_AUTH": given})


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:8"),
        ("0.0.0.0", "http://127.0.0.1:8"),
        ("::1", "http://[::1]:8"),
        ("::", "http://[::1]:8"),
        ("localhost", "http://localhost:8"),
    ],
)
def test_where_this_machine_reaches_what_listens(host: str, url: str) -> None:
    assert local_url(host, 8) == url
