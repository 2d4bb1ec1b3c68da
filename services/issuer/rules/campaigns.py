"""What a campaign may be, and what of it may change once it has tickets. Pure.

Refusals come in this order: mode, start, the range of a shuffled campaign, a capacity below what
was issued.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Annotated, Any, Literal, NamedTuple, Self
from zoneinfo import available_timezones

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from schemas.orders import SOURCE_PATTERN

LANGUAGE = re.compile(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8}){0,3}")
CAPACITY_MAX = 1_000_000_000
Mode = Literal["sequential", "shuffled"]
Product = tuple[str, str, str]  # source; `sku`, `product_id` or `variation_id`; its value


@cache
def _zones() -> frozenset[str]:
    return frozenset(available_timezones())


class CampaignDefinition(BaseModel):
    """A campaign as its file defines it."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    id: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")
    name: str = Field(min_length=1, max_length=200)
    sources: tuple[Annotated[str, Field(pattern=SOURCE_PATTERN)], ...] = Field(
        min_length=1, max_length=100
    )
    skus: tuple[Annotated[str, Field(min_length=1, max_length=100)], ...] = Field(
        (), max_length=1_000
    )
    product_ids: tuple[Annotated[str, Field(min_length=1, max_length=64)], ...] = Field(
        (), max_length=1_000
    )
    variation_ids: tuple[Annotated[str, Field(min_length=1, max_length=64)], ...] = Field(
        (), max_length=1_000
    )
    mode: Mode = "sequential"
    prefix: str = Field("", max_length=20)
    start: int = Field(1, ge=0, le=10**12, strict=True)
    padding: int = Field(1, ge=1, le=20, strict=True)
    capacity: int | None = Field(None, ge=1, le=CAPACITY_MAX, strict=True)
    date: dt.date | None = None
    time: str | None = None
    zone: str = "UTC"
    venue: str = Field("", max_length=300)
    design: str = Field("plain", pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")
    language: str = ""  # its design's first
    status: Literal["open", "closed"] = "open"

    @field_validator("time")
    @classmethod
    def _is_a_time(cls, text: str | None) -> str | None:
        if text is not None and (len(text) != 5 or dt.time.fromisoformat(text).second):
            raise ValueError("is a local time such as 19:30")
        return text

    @field_validator("zone")
    @classmethod
    def _is_a_zone(cls, name: str) -> str:
        if name not in _zones():
            raise ValueError("is no IANA time zone; write one such as Europe/Dublin")
        return name

    @field_validator("language")
    @classmethod
    def _is_a_language(cls, tag: str) -> str:
        """Return the tag in the case that BCP 47 recommends: one language, one spelling."""
        if tag and not LANGUAGE.fullmatch(tag):
            raise ValueError("is no language tag (BCP 47); write one such as de or pt-BR")
        language, *subtags = tag.lower().split("-")
        cased = (
            subtag.title() if len(subtag) == 4 else subtag.upper() if len(subtag) == 2 else subtag
            for subtag in subtags
        )
        return "-".join([language, *cased])

    @field_validator("sources", "skus", "product_ids", "variation_ids")
    @classmethod
    def _are_unique(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if repeated := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"names {', '.join(repeated)} twice")
        return names

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if not self.skus and not self.product_ids and not self.variation_ids:
            raise ValueError("matches nothing: give it skus, product_ids or variation_ids")
        if self.mode == "shuffled" and self.capacity is None:
            raise ValueError(
                "is shuffled, so it needs a capacity: numbers are drawn from a range that has an "
                "end"
            )
        return self

    def content(self) -> dict[str, Any]:
        """Return the definition as it is stored and compared: another content is another version.

        Fields that earlier releases did not have are left out when they are empty, so that the
        campaigns that those releases stored keep their versions.
        """
        omitted = {name for name in ("language", "variation_ids") if not getattr(self, name)}
        return self.model_dump(mode="json", exclude=omitted)

    def snapshot(self) -> dict[str, Any]:
        """Return what the snapshots of orders will carry of it: all that printing needs."""
        fields = {"campaign_id": self.id, "starts_on": self.date, "starts_at": self.time}
        return fields | {
            key: getattr(self, key) for key in ("name", "zone", "venue", "design", "language")
        }

    def products(self) -> set[Product]:
        names = [("sku", sku) for sku in self.skus] + [
            ("product_id", product) for product in self.product_ids
        ]
        names += [("variation_id", variation) for variation in self.variation_ids]
        return {(source, kind, name) for source in self.sources for kind, name in names}


class StoredCampaign(NamedTuple):
    """A campaign as it stands in the table."""

    version: int
    content: Mapping[str, Any]
    next_place: int


class CampaignChange(NamedTuple):
    """What applying a definition does. `version` is the campaign's version afterwards."""

    kind: Literal["added", "changed", "unchanged"]
    version: int


def classify_change(
    definition: CampaignDefinition, stored: StoredCampaign | None
) -> CampaignChange:
    """Return the change that a definition makes. The definition must not be refused."""
    if stored is None:
        return CampaignChange("added", 1)
    if stored.content == definition.content():
        return CampaignChange("unchanged", stored.version)
    return CampaignChange("changed", stored.version + 1)


def refusals(definition: CampaignDefinition, stored: StoredCampaign | None) -> Iterator[str]:
    """Yield why the campaign may not become this.

    Prefix and padding may change: numbers that were issued stay as they were printed.
    """
    if stored is None or not stored.next_place:
        return
    before, issued = stored.content, stored.next_place
    for key in ("mode", "start"):
        if (new := getattr(definition, key)) != before[key]:
            yield (
                f"{key} is {before[key]} and stays so, for {issued} numbers are issued; {new} "
                "needs a campaign of its own"
            )
    if (
        definition.mode == before["mode"] == "shuffled"
        and definition.capacity != before["capacity"]
    ):
        yield (
            f"capacity is {before['capacity']} and stays so: the numbers of a shuffled campaign "
            "are a permutation of its "
            f"range, and {issued} are issued; more numbers need a campaign of their own"
        )
    elif definition.capacity is not None and definition.capacity < issued:
        yield (
            f"capacity {definition.capacity} is below the {issued} numbers that are issued; the "
            f"least is {issued}"
        )


def conflicts(definitions: Sequence[CampaignDefinition]) -> Iterator[str]:
    """Yield the ids and products that two campaigns of one file claim."""
    owners: dict[Product, str] = {}
    ids: set[str] = set()
    for definition in definitions:
        if definition.id in ids:
            yield f"id {definition.id} is used twice"
        ids.add(definition.id)
        for product in sorted(definition.products()):
            owner = owners.setdefault(product, definition.id)
            if owner != definition.id:
                source, kind, name = product
                yield (
                    f"{definition.id}: {kind} {name} of {source} belongs to {owner} already; "
                    "take it out of one of them"
                )
