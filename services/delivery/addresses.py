"""E-mail addresses as SMTP takes them, from a mailbox in a setting and from an address that a buyer
typed. Pure.
"""

from __future__ import annotations

import re

import idna

from services.delivery.errors import RecipientUnusable

ADDRESS = re.compile(
    r"[^\s@<>(),;:\\\"\[\]\x00-\x1f\x7f]{1,64}@[^\s@<>(),;:\\\"\[\]_\x00-\x1f\x7f]{1,255}"
)
DOMAIN = re.compile(
    r"(?=.{1,253}\Z)[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)*"
)
MAILBOX = re.compile(
    r"(?P<bare>[^\s<>]+)|(?:\"(?P<quoted>(?:[^\"\\]|\\.)*)\"|(?P<name>[^\"<>@]*?))\s*<(?P<address>[^\s<>]+)>"
)


def smtp_address(text: str) -> str:
    """Return the address as SMTP takes it, its domain in ASCII. Raises RecipientUnusable."""
    local, _, domain_text = text.rpartition("@")
    if not ADDRESS.fullmatch(text) or not local.isascii():
        raise RecipientUnusable(
            "the order has no e-mail address" if not text else "the text is no e-mail address"
        )
    if "=?" in local:
        raise RecipientUnusable(
            "the text before the @ looks like an encoded word, which mail readers decode"
        )
    try:
        return f"{local}@{ascii_domain(domain_text)}"
    except UnicodeError as error:
        raise RecipientUnusable(
            f"the domain of the e-mail address cannot be one: {error}"
        ) from None


def ascii_domain(text: str) -> str:
    """Return a domain in ASCII by IDNA 2008. What people type is mapped by UTS 46 first,
    non-transitionally: an ß stays an ß and does not become ss. The result decodes to the mapped
    domain. Raises UnicodeError.
    """
    mapped = idna.uts46_remap(text, std3_rules=True, transitional=False).removesuffix(".")
    encoded = ".".join(label if label.isascii() else _a_label(label) for label in mapped.split("."))
    if not DOMAIN.fullmatch(encoded):
        raise UnicodeError("a label is empty, too long, or has a hyphen at its end")
    return encoded


def _a_label(label: str) -> str:
    encoded = idna.alabel(label).decode("ascii")
    if idna.ulabel(encoded) != label:
        raise UnicodeError("its encoded form decodes to another domain")
    return encoded


def parse_mailbox(text: str) -> tuple[str, str]:
    """Return name and address of `address`, `name <address>` or `"name" <address>`, as settings
    write one mailbox. Raises ValueError for a text that could be two addresses.
    """
    match = MAILBOX.fullmatch(text.strip())
    if match is None:
        raise ValueError("must be one address such as `Tickets <tickets@example.org>`")
    name = (
        match["name"] or "" if match["quoted"] is None else re.sub(r"\\(.)", r"\1", match["quoted"])
    )
    try:
        return name, smtp_address(match["bare"] or match["address"])
    except RecipientUnusable as error:
        raise ValueError(
            f"must be one address such as `Tickets <tickets@example.org>`: {error.cause}"
        ) from None
