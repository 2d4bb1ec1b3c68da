"""The sources file: which sources may send callbacks, and by which secrets they are verified.

    [sources.shop]
    kind = "woocommerce"
    secrets = ["env:SHOP_SECRET", "file:/run/secrets/shop-new"]
    rate_max = 500  # callbacks per second; default: STUBLINE_INGEST_WEBHOOK_SOURCE_RATE_MAX

    [sources.shop-payments]
    kind = "stripe"
    secrets = ["env:STRIPE_SIGNING_SECRET"]
    orders_of = "shop"  # for gateways and fraud checkers: the source of the orders

    [sources.tokyo]
    kind = "woocommerce"
    secrets = ["env:TOKYO_SECRET"]
    decimals = 2  # of the shop's amounts, if they differ from the currency's

    [sources.shop.poll]  # the worker polls it for what its callbacks lost
    url = "https://shop.example.org"
    key = "env:SHOP_API_KEY"
    secret = "env:SHOP_API_SECRET"

Files are relative to the folder of the sources file. Several secrets are valid at once, so that one
can be replaced without a gap. A mistake in the file stops the webhook endpoint. A secret that is
missing or can be guessed disables its own source only; the other sources are served.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from schemas.text import did_you_mean
from services.ingest.config import poll_section
from services.ingest.vendors import SLUG, WEBHOOK_SOURCES
from services.ingest.vendors.shared.poll import PollConfig
from services.ingest.vendors.shared.signing import WHSEC_PREFIX
from services.ingest.vendors.shared.source import Source
from services.runtime import files as bounded
from services.runtime.settings import ConfigurationError

WEBHOOK_PATH_PREFIX = "/hooks/"  # precedes a slug in the endpoint's path
TOP_LEVEL_KEYS = ("sources",)
SOURCE_KEYS = ("kind", "secrets", "rate_max", "orders_of", "decimals", "poll")
DECIMALS_MAX = 8  # as in schemas.orders
OPTION_CHARS_MAX = 500
SECRETS_MAX = 10
SECRET_BYTES_MAX = 4_096
SECRET_FILE_BYTES_MAX = 4 * SECRET_BYTES_MAX  # as many characters of four bytes
SECRET_CHARS_MIN, DISTINCT_MIN = 16, 6
RATE_MAX = 1_000_000
CUTOFF = 0.5  # keys and kinds are short: half of one may be misspelt
REMEDY = "make one with `openssl rand -hex 32`, and set it at the source too"


@dataclass(frozen=True, slots=True)
class SourceConfig:
    """A source of the file."""

    slug: str
    source: Source
    secrets: tuple[bytes, ...] = field(repr=False)
    refusal: str | None = None  # why it is not served
    secret_references: tuple[str, ...] = ()  # env:NAME or file:PATH, never the secrets
    rate_max: float | None = None  # callbacks per second; None: the setting
    orders_of: str = ""  # the source whose orders a gateway or fraud checker reports on
    options: Mapping[str, str] = field(default_factory=dict)  # further keys that its kind accepts
    poll: PollConfig | None = None  # how it is polled for what its callbacks lost
    poll_refusal: str | None = None  # why it is not polled
    decimals: int | None = None  # of its amounts, if they differ from the currency's


def read(path: Path, environment: Mapping[str, str] = os.environ) -> dict[str, SourceConfig]:
    """Read the file and return its sources by slug. Raises ConfigurationError, which never quotes a
    secret.
    """
    try:
        document = bounded.read_toml(path)
    except bounded.FileUnusableError as error:
        raise ConfigurationError(f"the sources file {path}: {error}") from None
    _refuse_unknown_keys(document, TOP_LEVEL_KEYS, "the sources file")
    sources = document.get("sources", {})
    if not isinstance(sources, dict) or not sources:
        raise ConfigurationError(f"the sources file {path} names no source: [sources.shop]")
    return {
        slug: _source_config(slug, entry, environment, path.parent)
        for slug, entry in sources.items()
    }


def warnings(configs: Mapping[str, SourceConfig]) -> dict[str, str]:
    """Return warnings by slug for what is valid and probably a mistake: payments and verdicts for
    the orders of an unknown source.
    """
    return {
        config.slug: (
            f"orders_of = {config.orders_of!r} is no source of this file"
            f"{did_you_mean(config.orders_of, configs, CUTOFF)}. "
            "It is right if that source publishes its orders itself"
        )
        for config in configs.values()
        if config.orders_of and config.orders_of not in configs
    }


def _source_config(
    slug: str, entry: Any, environment: Mapping[str, str], folder: Path
) -> SourceConfig:
    where = f"[sources.{slug}]"
    if not SLUG.fullmatch(slug):
        raise ConfigurationError(f"{where}: a slug is 1 to 32 of a-z, 0-9 and -")
    if not isinstance(entry, dict):
        raise ConfigurationError(f"{where} is not a table")
    kind = entry.get("kind")
    if not isinstance(kind, str) or kind not in WEBHOOK_SOURCES:
        raise ConfigurationError(
            f"{where}: kind is none of {', '.join(WEBHOOK_SOURCES)}"
            + did_you_mean(str(kind), WEBHOOK_SOURCES, CUTOFF)
        )
    source = WEBHOOK_SOURCES[kind]
    _refuse_unknown_keys(entry, (*SOURCE_KEYS, *source.options), where)
    secrets, secret_references, refusal = _secrets(
        source, entry.get("secrets"), where, environment, folder
    )
    config = SourceConfig(
        slug,
        source,
        secrets,
        refusal,
        secret_references,
        _rate(entry.get("rate_max"), where),
        _orders_of(source, entry.get("orders_of"), where),
        _options(source, entry, where, folder),
        decimals=_decimals(source, entry.get("decimals"), where),
    )
    return _with_poll(config, entry["poll"], environment, folder) if "poll" in entry else config


def _with_poll(
    config: SourceConfig, block: Any, environment: Mapping[str, str], folder: Path
) -> SourceConfig:
    """Return the source with its poll, or with the reason why it is not polled; its callbacks are
    accepted in either case.
    """
    where, kind = f"[sources.{config.slug}.poll]", config.source.kind
    poll_section.check(kind, block, where)
    _refuse_unknown_keys(block, poll_section.POLL_KEYS, where)

    def dereferenced(name: object) -> str:
        return _dereferenced(name, where, environment, folder)

    own = {"slug": config.slug, "orders_of": config.orders_of}
    try:
        poll = poll_section.read(
            kind, block, where, dereferenced=dereferenced, options=config.options, **own
        )
    except LookupError as error:
        return replace(config, poll_refusal=str(error.args[0]))
    return replace(config, poll=poll)


def _secrets(
    source: Source, references: object, where: str, environment: Mapping[str, str], folder: Path
) -> tuple[tuple[bytes, ...], tuple[str, ...], str | None]:
    """Return the keys, their references, and why they cannot be used; then there are no keys."""
    if not isinstance(references, list) or not 1 <= len(references) <= SECRETS_MAX:
        raise ConfigurationError(
            f"{where}: secrets is a list of 1 to {SECRETS_MAX}, each env:NAME or file:PATH"
        )
    secrets, problems = list[bytes](), list[str]()
    for reference in references:
        try:
            secret = _secret(reference, where, environment, folder)
        except LookupError as error:
            problems.append(str(error.args[0]))
            continue
        try:
            secrets.append(source.key_of(secret))
        except ValueError as error:  # whose text does not quote the secret
            problems.append(f"{reference} {error}")
            continue
        if is_guessable(secrets[-1]):  # long as written, short as a key: base64 of zeros, entities
            problems.append(guessable_message(reference))
    return (
        () if problems else tuple(secrets),
        tuple(map(str, references)),
        "; ".join(problems) or None,
    )


def _orders_of(source: Source, value: object, where: str) -> str:
    if value is None and not source.needs_orders_of:
        return ""
    if not source.needs_orders_of:
        raise ConfigurationError(
            f"{where}: a {source.kind} sends its own orders, so orders_of has no effect"
        )
    if not isinstance(value, str) or not SLUG.fullmatch(value):
        raise ConfigurationError(
            f'{where}: orders_of = "..." names the source of the orders that '
            f"{source.kind} reports on"
        )
    return value


def _options(
    source: Source, entry: Mapping[str, object], where: str, folder: Path
) -> Mapping[str, str]:
    given = {name: _option(entry[name], name, where) for name in source.options if name in entry}
    try:
        return source.read_options(given, folder)
    except ValueError as error:
        raise ConfigurationError(f"{where}: {error}") from None


def _option(value: object, name: str, where: str) -> str:
    if not isinstance(value, str) or not value.strip() or len(value) > OPTION_CHARS_MAX:
        raise ConfigurationError(f"{where}: {name} is a text of 1 to {OPTION_CHARS_MAX} characters")
    return value.strip()


def _rate(value: object, where: str) -> float | None:
    if value is None:
        return None
    if (
        isinstance(value, bool)
        or not isinstance(value, (int, float))
        or not 0.1 <= value <= RATE_MAX
    ):
        raise ConfigurationError(
            f"{where}: rate_max is a number of callbacks per second, from 0.1 to {RATE_MAX:,}"
        )
    return float(value)


def _decimals(source: Source, given: object, where: str) -> int | None:
    if given is None:
        return None
    if not source.has_decimal_amounts:
        raise ConfigurationError(
            f"{where}: a {source.kind} does not write amounts as decimal numbers: no decimals here"
        )
    if isinstance(given, bool) or not isinstance(given, int) or not 0 <= given <= DECIMALS_MAX:
        raise ConfigurationError(f"{where}: decimals is a whole number from 0 to {DECIMALS_MAX}")
    return given


def _secret(name: object, where: str, environment: Mapping[str, str], folder: Path) -> str:
    """Return a secret. Raises LookupError when it is missing, empty or weak: anybody who guesses it
    can create paid orders.
    """
    secret = _dereferenced(name, where, environment, folder)
    if is_guessable(secret.removeprefix(WHSEC_PREFIX)):
        raise LookupError(guessable_message(name))
    return secret


def is_guessable(secret: str | bytes) -> bool:
    return len(secret) < SECRET_CHARS_MIN or len(set(secret)) < DISTINCT_MIN


def guessable_message(name: object) -> str:
    return (
        f"{name} can be guessed: fewer than {SECRET_CHARS_MIN} characters, or nearly all the "
        f"same; {REMEDY}"
    )


def _dereferenced(name: object, where: str, environment: Mapping[str, str], folder: Path) -> str:
    """Return the referenced text. Raises LookupError when it is missing, empty or too long."""
    if not isinstance(name, str) or not name.startswith(("env:", "file:")):
        raise ConfigurationError(
            f"{where}: a secret is referenced as env:NAME or file:PATH, and is never written "
            "into the file"
        )
    kind, _, location = name.partition(":")
    if kind == "env":
        secret = environment.get(location, "")
    else:
        try:
            secret = bounded.read_text(folder / location, SECRET_FILE_BYTES_MAX).strip("\r\n")
        except bounded.FileUnusableError as error:
            raise LookupError(f"{name} cannot be used: {error}") from None
    if not secret.strip():
        raise LookupError(f"{name} is missing or empty")
    # Python reads a byte that is not UTF-8 from the environment as a surrogate.
    if not secret.isascii() and any("\ud800" <= character <= "\udfff" for character in secret):
        raise LookupError(f"{name} is not UTF-8")
    if len(secret) > SECRET_BYTES_MAX:
        raise LookupError(f"{name} is longer than {SECRET_BYTES_MAX}")
    return secret


def _refuse_unknown_keys(
    table: Mapping[str, object], known_keys: Iterable[str], where: str
) -> None:
    if unknown_keys := [name for name in table if name not in known_keys]:
        raise ConfigurationError(
            f"{where}: {unknown_keys[0]!r} is no key of it"
            + did_you_mean(unknown_keys[0], known_keys, CUTOFF)
        )
