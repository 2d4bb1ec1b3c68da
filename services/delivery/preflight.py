"""Before a campaign is applied: can its design be printed? Asked by the entry point `campaign` of `stubline.preflight`."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from schemas.orders import CampaignSaid, Person, Ticket
from services.delivery import documents, printer
from services.delivery.errors import DesignUnusable
from services.delivery.settings import Settings
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
    """Raises DesignUnusable and DesignUnknown, with the campaign's id. Its plate is on this machine's shelf then.

    `content`: campaign_id, name, starts_on, starts_at, zone, venue, design and language, as orders will say them.
    """
    said = CampaignSaid.model_validate({"version": 1, **content})
    ticket = NOBODY.model_copy(update={"campaign_id": said.campaign_id})
    try:
        renderer = printer.renderer(load(Settings))
        renderer.check_language(said.design, said.language)
        language = renderer.language(said.design, said.language)
        renderer.check(documents.page(ticket, said, "", (1, 1), language))
    except DesignUnusable as error:
        raise type(error)(f"campaign {said.campaign_id}: {error.cause}") from None
