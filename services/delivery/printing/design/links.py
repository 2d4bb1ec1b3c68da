"""Links of a page: the same on all tickets, or with a ticket's own texts in their address
(`data-link`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args
from urllib.parse import quote
from xml.etree.ElementTree import Element

from services.delivery.printing.design.library import DesignVariant, FieldName
from services.delivery.printing.design.page import source_line
from services.delivery.printing.errors import DesignUnusable

# The base of relative addresses, whose host can never be resolved (RFC 6761).
BASE = "http://design.invalid/"
SCHEMES = ("https://", "http://", "mailto:", "tel:")
STAND_IN = "https://link-{}.invalid/"  # while the page is laid out
HOST = re.compile(r"https?://[^\s{}/?#@]+(/|$)")
PART = re.compile(r"\{([^{}]*)\}")
ADDRESS = "%/:?#[]@!$&'()*+,;=-._~"  # not escaped in an address (RFC 3986)


@dataclass(frozen=True, slots=True)
class Link:
    """A link with a ticket's own texts in its address."""

    address: str  # with `{field}` for each text
    description: str  # which a screen reader announces


def links_of(variant: DesignVariant, root: Element) -> tuple[Link, ...]:
    """Return every data-link of the page, and give its element a stand-in as its address. Raises
    DesignUnusable.
    """
    links: list[Link] = []
    for element in root.iter("a"):
        inner_fields = (inner.get("data-field") for inner in element.iter())
        for field in (name for name in inner_fields if name is not None):
            at = source_line(variant.design, f'data-field="{field}"')
            raise DesignUnusable(
                f"{variant.design.name}/{at}: field `{field}` is in a link, whose place would "
                "depend on its text: lay an empty <a> of its size over it"
            )
    for element in root.iter():
        if (address := element.get("data-link")) is None:
            continue
        at = source_line(variant.design, "data-link", len(links))
        where = f"{variant.design.name}/{at}: data-link"
        if element.tag != "a":
            raise DesignUnusable(f"{where} is on <{element.tag}>; a link is an <a>")
        check_address(where, address, variant.design.manifest.fields)
        description = (
            " ".join("".join(element.itertext()).split()) or element.get("title", "") or "Link"
        )
        element.set("href", STAND_IN.format(len(links)))
        links.append(Link(address, description))
    return tuple(links)


def check_address(where: str, address: str, known: Iterable[str]) -> None:
    if not address.startswith(SCHEMES):
        raise DesignUnusable(f"{where} is `{address[:80]}`; it begins with {', '.join(SCHEMES)}")
    if address.startswith("http") and not HOST.match(address):
        raise DesignUnusable(
            f"{where} is `{address[:80]}`; its host is the same for all, with / after it: a "
            "ticket's texts are not trusted"
        )
    for name in PART.findall(address):
        if name not in get_args(FieldName):
            raise DesignUnusable(
                f"{where} has `{{{name[:40]}}}` in it; fields are {', '.join(get_args(FieldName))}"
            )
        if name not in known:
            raise DesignUnusable(
                f"{where} has `{{{name}}}` in it, which is not in design.toml: add [fields.{name}]"
            )
    if re.search("[{}]", PART.sub("", address)):
        raise DesignUnusable(
            f"{where} is `{address[:80]}`; braces are for the name of a field, once each"
        )


def check_targets(where: str, links: Sequence[tuple[Any, ...]]) -> None:
    """Raise DesignUnusable for a link within the page, to an attachment, or to a file of the
    design. These are all links that WeasyPrint drew, also those without data-link.
    """
    for kind, target, *_ in links:
        if kind == "internal":
            raise DesignUnusable(
                f"{where}: links to `#{target[:80]}`, a place of its own: a ticket is one page"
            )
        if kind == "attachment":
            raise DesignUnusable(f"{where}: attaches `{target[:80]}`: a ticket carries no files")
        if target.startswith(BASE):
            raise DesignUnusable(
                f"{where}: links to `{target.removeprefix(BASE)[:80]}` in the design's folder, "
                "which no ticket holder has: write the complete address"
            )
        if not target.startswith(SCHEMES):
            raise DesignUnusable(
                f"{where}: links to `{target[:80]}`; a link begins with {', '.join(SCHEMES)}"
            )


def filled_address(address: str, texts: Mapping[str, str]) -> bytes:
    """Return the address with a ticket's texts, in ASCII. A text is one part of the address: it can
    end no path and begin no query.
    """
    filled = PART.sub(lambda part: quote(texts[part[1]], safe="", errors="replace"), address)
    return quote(filled, safe=ADDRESS, errors="replace").encode()


def action(address: bytes) -> bytes:
    return b"<</Type/Action/S/URI/URI<%b>>>" % address.hex().encode()
