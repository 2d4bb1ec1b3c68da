"""Before a campaign is applied: can its design be printed? Asked by the entry point `campaign` of
`stubline.preflight`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from schemas.orders import CampaignSnapshot, Person, Ticket
from services.delivery import documents, printer
from services.delivery.printing.errors import DesignUnusable
from services.delivery.printing.design.library import DesignVariant
from services.delivery.printing.design.page import CampaignFacts
from services.delivery.printing.plate_cache import plate_key
from services.delivery.printing.renderer import Renderer
from services.delivery.printing.tools.isolated import asked
from services.delivery.printing.tools.target import by_name
from services.delivery.settings import DeliverySettings
from services.runtime.settings import load

NOBODY = Ticket(
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


def campaign(content: Mapping[str, Any]) -> None:
    """Raises DesignUnusable and DesignUnknown, with the campaign's id. Its plate is on this
    machine's shelf then.

    `content`: campaign_id, name, starts_on, starts_at, zone, venue, design and language, as orders
    will say them.
    """
    said = CampaignSnapshot.model_validate({"version": 1, **content})
    ticket = NOBODY.model_copy(update={"campaign_id": said.campaign_id})
    try:
        renderer = printer.renderer(load(DeliverySettings))
        renderer.check_language(said.design, said.language)
        language = renderer.language(said.design, said.language)
        chosen, facts = renderer.asked(
            documents.page(ticket, said, NOBODY.holder, (1, 1), language)
        )
        if not renderer.shelf.is_proven(plate_key(chosen, facts)):
            prove(chosen, facts, renderer)
    except DesignUnusable as error:
        raise type(error)(f"campaign {said.campaign_id}: {error.cause}") from None


def prove(chosen: DesignVariant, facts: CampaignFacts, renderer: Renderer) -> None:
    """Compiles it, and prints it both ways, in a process of its own. Raises DesignUnusable with the
    first fault.
    """
    target = by_name(chosen.design.name, renderer.library)
    if target is None:
        raise DesignUnusable(f"{chosen.design.name} was there a moment ago and is gone")
    told = asked(
        "campaign",
        target,
        renderer.shelf,
        size=chosen.size,
        language=chosen.language,
        facts=asdict(facts),
    )
    if faults := [str(it["text"]) for it in told if it.get("kind") == "fault"]:
        more = (
            f" (and {len(faults) - 1} more: `stubline design check` tells them)"
            if len(faults) > 1
            else ""
        )
        raise DesignUnusable(faults[0] + more)
