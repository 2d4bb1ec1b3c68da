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
    """`address` has `{field}` where a ticket's text stands; `said`: what a reader is told that it
    is.
    """

    address: str
    said: str


def links_of(chosen: DesignVariant, root: Element) -> tuple[Link, ...]:
    """Every data-link of the page, checked; its element leads to a stand-in from now on. Raises
    DesignUnusable.
    """
    found: list[Link] = []
    for element in root.iter("a"):
        for field in (
            it.get("data-field") for it in element.iter() if it.get("data-field") is not None
        ):
            at = source_line(chosen.design, f'data-field="{field}"')
            raise DesignUnusable(
                f"{chosen.design.name}/{at}: field `{field}` is in a link, whose place would "
                "depend on its text: lay an empty <a> of its size over it"
            )
    for element in root.iter():
        if (address := element.get("data-link")) is None:
            continue
        where = (
            f"{chosen.design.name}/{source_line(chosen.design, 'data-link', len(found))}: data-link"
        )
        if element.tag != "a":
            raise DesignUnusable(f"{where} stands on <{element.tag}>; a link is an <a>")
        check_address(where, address, chosen.design.manifest.fields)
        said = " ".join("".join(element.itertext()).split()) or element.get("title", "") or "Link"
        element.set("href", STAND_IN.format(len(found)))
        found.append(Link(address, said))
    return tuple(found)


def check_address(where: str, address: str, known: Iterable[str]) -> None:
    if not address.startswith(SCHEMES):
        raise DesignUnusable(f"{where} is `{address[:80]}`; it begins with {', '.join(SCHEMES)}")
    if address.startswith("http") and not HOST.match(address):
        raise DesignUnusable(
            f"{where} is `{address[:80]}`; its host is the same for all, with / behind it: texts "
            "of tickets are strangers'"
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
    """Of all links as WeasyPrint found them, wherever they come from: a ticket has one page, and
    nothing beside it.
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
                "which nobody has who holds the ticket: say the whole address"
            )
        if not target.startswith(SCHEMES):
            raise DesignUnusable(
                f"{where}: links to `{target[:80]}`; a link begins with {', '.join(SCHEMES)}"
            )


def filled_address(address: str, texts: Mapping[str, str]) -> bytes:
    """ASCII. A ticket's text is one part of the address, whatever stands in it: it ends no path and
    begins no query.
    """
    filled = PART.sub(lambda part: quote(texts[part[1]], safe="", errors="replace"), address)
    return quote(filled, safe=ADDRESS, errors="replace").encode()


def action(address: bytes) -> bytes:
    return b"<</Type/Action/S/URI/URI<%b>>>" % address.hex().encode()
