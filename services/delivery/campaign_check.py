"""Checks that a campaign's design can be printed, before the campaign is applied. The entry point
`campaign` of `stubline.preflight`.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from functools import cache
from typing import Any
from uuid import UUID

import msgspec

from schemas import structs
from schemas.orders import CampaignSnapshot, Person, Ticket
from services.delivery import documents
from services.delivery.errors import FilesUrlUnusable
from services.delivery.plate_store import PlateStore
from services.delivery.printing.design.library import DesignVariant
from services.delivery.printing.design.page import CampaignFacts
from services.delivery.printing.errors import DesignUnusable
from services.delivery.printing.plate_cache import plate_key
from services.delivery.printing.renderer import Renderer
from services.delivery.printing.tools.isolated import run_isolated
from services.delivery.printing.tools.target import by_name
from services.delivery.rendering import configured_renderer
from services.delivery.settings import DeliverySettings
from services.runtime.errors import StublineError
from services.runtime.settings import load

SAMPLE_TICKET = Ticket(
    ticket_id=UUID(int=0),
    line_id="",
    ordinal=1,
    campaign_id="",
    number="1",
    code="A" * 26,
    status="Active",
    holder=Person(),
    issued_at=datetime(2026, 1, 1, tzinfo=UTC),
)


def check_campaign(content: Mapping[str, Any]) -> None:
    """Raise DesignUnusable or DesignUnknown, with the campaign's id, unless its tickets can be
    printed. Its plate is in this machine's plate cache and in the blob store afterwards, for the
    senders. A blob store that cannot be reached is a warning: a sender compiles the plate then.

    `content` has campaign_id, name, starts_on, starts_at, zone, venue, design and language, as
    orders will carry them.
    """
    snapshot = structs.convert(CampaignSnapshot, {"version": 1, **content})
    ticket = msgspec.structs.replace(SAMPLE_TICKET, campaign_id=snapshot.campaign_id)
    try:
        settings = load(DeliverySettings)
        renderer = configured_renderer(settings, shared=plate_store(settings.files_url))
        renderer.check_language(snapshot.design, snapshot.language)
        language = renderer.language(snapshot.design, snapshot.language)
        variant, facts = renderer.compile_input(
            documents.page(ticket, snapshot, SAMPLE_TICKET.holder, (1, 1), language)
        )
        key, plate_cache = plate_key(variant, facts), renderer.plate_cache
        if not plate_cache.is_compared(key):
            plate_cache.load_shared(key)
        if not plate_cache.is_compared(key):
            check_plate(variant, facts, renderer)
        plate_cache.publish(key)
    except DesignUnusable as error:
        raise type(error)(f"campaign {snapshot.campaign_id}: {error.cause}") from None


@cache
def plate_store(url: str) -> PlateStore | None:
    """Return the store of all checks of this process: its circuit breaker keeps a file of many
    campaigns from waiting for an unavailable store once each.
    """
    warned = set[str]()

    def warn(error: StublineError) -> None:
        """Warn once for each code: the checks run at once, and the breaker tries again."""
        if error.code not in warned:
            warned.add(error.code)
            print(  # noqa: T201 - for the operator, who typed the command
                f"warning: {error.code} {error.cause}. A sender may have to compile the design at "
                "the campaign's first mail.",
                file=sys.stderr,
            )

    try:
        return PlateStore(url, warn)
    except FilesUrlUnusable as error:
        warn(error)
        return None


def check_plate(variant: DesignVariant, facts: CampaignFacts, renderer: Renderer) -> None:
    """Compile the plate, and print it both ways, in a process of its own. Raises DesignUnusable
    with the first fault.
    """
    target = by_name(variant.design.name, renderer.library)
    if target is None:
        raise DesignUnusable(f"{variant.design.name} existed a moment ago and is missing now")
    progress = run_isolated(
        "campaign",
        target,
        renderer.plate_cache,
        size=variant.size,
        language=variant.language,
        facts=asdict(facts),
    )
    if faults := [str(row["text"]) for row in progress if row.get("kind") == "fault"]:
        more = (
            f" (and {len(faults) - 1} more: `stubline design check` lists them)"
            if len(faults) > 1
            else ""
        )
        raise DesignUnusable(faults[0] + more)
