"""Addresses that webhooks may have, as far as it can be told without looking them up."""

from __future__ import annotations

import httpx

MAX_LENGTH = 2000


def check_address(address: str) -> str:
    """The address of http(s) as it was given. Raises ValueError with what is wrong with it."""
    if not address.isprintable() or " " in address or len(address) > MAX_LENGTH:
        raise ValueError(f"give an address of at most {MAX_LENGTH} printable characters")
    try:
        url = httpx.URL(address)
    except (httpx.InvalidURL, ValueError):
        raise ValueError("the address is no valid URL") from None
    if url.scheme not in ("http", "https") or not url.host:
        raise ValueError("give an address of https or http")
    if url.userinfo:
        raise ValueError("leave user and password out: what is sent is signed")
    if url.fragment:
        raise ValueError("leave the fragment out: it is never sent")
    return address
