"""`[sources.shop.poll]`: how a source is polled for what its callbacks lost.

A mistake is a ConfigurationError, as everywhere in the sources file. Missing credentials disable
this poll alone.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping
from typing import Any

import httpx

from services.ingest.vendors.polls import VENDORS
from services.ingest.vendors.shared.poll import FIRST_DAYS, PollConfig
from services.runtime.settings import ConfigurationError

POLL_KEYS = ("url", "key", "secret", "every_s", "first_days")
EVERY_MIN_S, EVERY_MAX_S = 1.0, 86_400.0
FIRST_DAYS_MAX = 90.0


def check(kind: str, block: object, where: str) -> None:
    if kind not in VENDORS:
        raise ConfigurationError(f"{where}: {kind} cannot be polled; only {', '.join(VENDORS)} can")
    if not isinstance(block, dict):
        raise ConfigurationError(f"{where} is not a table")


def read(
    kind: str,
    block: Mapping[str, Any],
    where: str,
    *,
    dereferenced: Callable[[object], str],
    slug: str,
    orders_of: str,
    options: Mapping[str, str],
) -> PollConfig:
    """Read the section. Raises ConfigurationError, or LookupError when credentials are missing.
    `dereferenced` reads env:NAME and file:PATH.
    """
    vendor = VENDORS[kind]
    url = address(block.get("url") or vendor.url, where)
    every_s = number(block, "every_s", where, least=EVERY_MIN_S, most=EVERY_MAX_S)
    first_days = number(block, "first_days", where, least=0.0, most=FIRST_DAYS_MAX)
    credentials = dict[str, str]()
    for name in ("key", "secret"):
        if name in vendor.needs and name not in block:
            raise ConfigurationError(f"{where}: {name} is missing, as env:NAME or file:PATH")
        if name not in vendor.needs and name in block:
            raise ConfigurationError(f"{where}: a {kind} has no {name}")
    # after all checks of the file, because a missing credential is no mistake in it
    for name in vendor.needs:
        credentials[name] = credential(dereferenced(block[name]), block[name])
    return PollConfig(
        slug,
        url,
        credentials.get("key", ""),
        credentials.get("secret", ""),
        orders_of,
        options,
        every_s,
        FIRST_DAYS if first_days is None else first_days,
    )


def credential(text: str, name: str) -> str:
    if not text.isascii() or not text.isprintable():
        raise LookupError(f"{name} has characters that no request can carry")
    return text


def address(value: object, where: str) -> str:
    """Return the address: https, or http to this machine only, because credentials go with every
    request.
    """
    error = ConfigurationError(
        f'{where}: url = "https://..." is the address of its API, without credentials, ? and #'
    )
    if not isinstance(value, str):
        raise error
    try:
        url = httpx.URL(value)
    except (httpx.InvalidURL, ValueError):
        raise error from None
    if (
        url.scheme not in {"https", "http"}
        or not url.host
        or url.userinfo
        or url.query
        or url.fragment
    ):
        raise error
    if url.scheme == "http" and not is_loopback(url.host):
        raise ConfigurationError(
            f"{where}: url is http, which shows credentials to everybody on the way; use https"
        )
    return value.rstrip("/")


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def number(
    block: Mapping[str, Any], name: str, where: str, *, least: float, most: float
) -> float | None:
    if (value := block.get(name)) is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        raise ConfigurationError(f"{where}: {name} is a number from {least:g} to {most:g}")
    return float(value)
