"""The templates, sandboxed and escaping: a stranger's name is text in them, whatever it looks like."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.resources import files

import segno
from jinja2 import DictLoader, StrictUndefined, select_autoescape
from jinja2.sandbox import ImmutableSandboxedEnvironment
from markupsafe import Markup

TINTS = (
    "#8c1d40",
    "#1f4e79",
    "#2f5d3a",
    "#5b2a86",
    "#7a3b12",
    "#0f5c63",
    "#7d1f5f",
    "#34406b",
)  # white reads well on all


def tint_number(campaign_id: str) -> int:
    return hashlib.sha256(campaign_id.encode()).digest()[0] % len(TINTS)


def tint(campaign_id: str) -> str:
    """A campaign's own colour, always the same."""
    return TINTS[tint_number(campaign_id)]


def tint_name(campaign_id: str) -> str:
    """The same as a class of ticket.css."""
    return f"tint-{tint_number(campaign_id)}"


def size(text: str, long: int, longest: int) -> str:
    """The class that makes a long text fit where it stands."""
    return "longest long" if len(text) > longest else "long" if len(text) > long else ""


def qr(payload: str) -> Markup:
    """As paths, so it is sharp at every size. Level M: a torn corner or a thumb does no harm."""
    code = segno.make(payload, error="m", micro=False)
    drawn = code.svg_inline(border=0, omitsize=True, svgclass=None, lineclass=None, title="QR code of the ticket")
    return Markup(drawn)  # noqa: S704 - segno's own drawing; the payload is in no text of it


@cache
def environment() -> ImmutableSandboxedEnvironment:
    texts = {
        entry.name: entry.read_text("utf-8")
        for entry in files(__package__).iterdir()
        if entry.name[-3:] != ".py" and entry.is_file()
    }
    made = ImmutableSandboxedEnvironment(
        loader=DictLoader(texts), autoescape=select_autoescape(["html"]), undefined=StrictUndefined, trim_blocks=False
    )
    made.filters.update(tint=tint, tint_name=tint_name, size=size, qr=qr)
    return made


def fill(name: str, **what: object) -> str:
    return environment().get_template(name).render(**what)


def text_of(name: str) -> str:
    return files(__package__).joinpath(name).read_text("utf-8")
