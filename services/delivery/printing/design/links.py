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

BASE = (
    "http://design.invalid/"  # relative addresses need one; the name can never resolve (RFC 6761)
)
SCHEMES = ("https://", "http://", "mailto:", "tel:")
STAND_IN = "https://link-{}.invalid/"  # while the page is laid out
HOST = re.compile(r"https?://[^\s{}/?#@]+(/|$)")
PART = re.compile(r"\{([^{}]*)\}")
ADDRESS = "%/:?#[]@!$&'()*+,;=-._~"  # stays as it is in an address (RFC 3986)


@dataclass(frozen=True, slots=True)
class Link:
    """`address` has `{field}` where a ticket's text is filled in; `description` is what a reader
    announces.
    """

    address: str
    description: str


def links_of(variant: DesignVariant, root: Element) -> tuple[Link, ...]:
    """Return every data-link of the page, checked; from now on its element leads to a stand-in.
    Raises DesignUnusable.
    """
    found: list[Link] = []
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
        at = source_line(variant.design, "data-link", len(found))
        where = f"{variant.design.name}/{at}: data-link"
        if element.tag != "a":
            raise DesignUnusable(f"{where} stands on <{element.tag}>; a link is an <a>")
        check_address(where, address, variant.design.manifest.fields)
        description = (
            " ".join("".join(element.itertext()).split()) or element.get("title", "") or "Link"
        )
        element.set("href", STAND_IN.format(len(found)))
        found.append(Link(address, description))
    return tuple(found)


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
            f"{where} is `{address[:80]}`; braces stand around the name of a field, once each"
        )


def check_targets(where: str, found: Sequence[tuple[Any, ...]]) -> None:
    """Check all links as WeasyPrint found them, wherever they come from: a ticket has one page and
    no attachments.
    """
    for kind, target, *_ in found:
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
    """Return the address with a ticket's texts, in ASCII. A text is one part of the address,
    whatever it contains: it ends no path and begins no query.
    """
    filled = PART.sub(lambda part: quote(texts[part[1]], safe="", errors="replace"), address)
    return quote(filled, safe=ADDRESS, errors="replace").encode()


def action(address: bytes) -> bytes:
    return b"<</Type/Action/S/URI/URI<%b>>>" % address.hex().encode()
