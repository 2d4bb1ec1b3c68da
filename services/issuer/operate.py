"""Campaigns as operators apply and read them, and tickets as they look them up.

Applying is one command in one transaction with its audit row (services.runtime.admin.commands): all
campaigns of a file, or none.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from psycopg import Connection
from psycopg.rows import TupleRow, dict_row

from services.issuer.errors import CampaignRefused, CampaignUnknown
from services.issuer.rules.campaigns import (
    CampaignChange,
    CampaignDefinition,
    Product,
    StoredCampaign,
    classify_change,
    refusals,
)
from services.runtime.admin.commands import AdminCommands, CommandResult, Row
from services.runtime.postgres import statements

SQL = statements.load(__package__)
KEY_BYTES = 32


@dataclass(frozen=True, slots=True)
class CampaignCommands(AdminCommands):
    """What changes campaigns."""

    def apply(self, definitions: Sequence[CampaignDefinition]) -> CommandResult:
        """Orders with lines that the campaigns take from now on become due; the issuer's timer
        works them.
        """
        asked = {"campaigns": [definition.content() for definition in definitions]}
        return self._act("campaigns apply", asked, lambda: self._apply(definitions))

    def _apply(self, definitions: Sequence[CampaignDefinition]) -> Row:
        self.connection.execute(SQL["lock_all_campaigns"])
        names = {"campaign_ids": [definition.id for definition in definitions]}
        rows = self.connection.execute(SQL["lock_campaigns_by_id"], names).fetchall()
        standing = {row[0]: StoredCampaign._make(row[1:]) for row in rows}
        self._refuse(definitions, standing)
        done = {
            definition.id: classify_change(definition, standing.get(definition.id))
            for definition in definitions
        }
        self._save(
            [definition for definition in definitions if done[definition.id].what != "unchanged"],
            done,
        )
        self.connection.execute(SQL["drop_products"], names)
        products = [
            (product, definition.id)
            for definition in definitions
            for product in definition.products()
        ]
        owners = {"campaign_ids": [owner for _, owner in products]}
        self.connection.execute(
            SQL["add_products"], _columns([product for product, _ in products]) | owners
        )
        why = {"actor": self.command.actor, "cause": self.command.command_id}
        due = self.connection.execute(SQL["mark_due"], names | why).rowcount
        told = [
            {"campaign_id": name, "change": it.what, "version": it.version}
            for name, it in done.items()
        ]
        return {"campaigns": told, "due_orders": due}

    def _refuse(
        self, definitions: Sequence[CampaignDefinition], standing: Mapping[str, StoredCampaign]
    ) -> None:
        problems = [
            f"{it.id}: {reason}"
            for it in definitions
            for reason in refusals(it, standing.get(it.id))
        ]
        wanted = {product: it.id for it in definitions for product in it.products()}
        arguments = _columns(list(wanted)) | {"campaign_ids": [it.id for it in definitions]}
        for owner, source, kind, name in self.connection.execute(
            SQL["find_products_of_others"], arguments
        ):
            claimant = wanted[source, kind, name]
            problems.append(f"{claimant}: {kind} {name} of {source} belongs to campaign {owner}")
        if problems:
            raise CampaignRefused("; ".join(problems))

    def _save(
        self, definitions: Sequence[CampaignDefinition], done: Mapping[str, CampaignChange]
    ) -> None:
        if not definitions:
            return
        self.connection.execute(
            SQL["save_campaigns"],
            {
                "campaign_ids": [it.id for it in definitions],
                "versions": [done[it.id].version for it in definitions],
                "definitions": [orjson.dumps(it.content()).decode() for it in definitions],
                "keys": [secrets.token_bytes(KEY_BYTES) for _ in definitions],
            },
        )


def _columns(products: Sequence[Product]) -> dict[str, Any]:
    columns = zip(*products, strict=True) if products else ((), (), ())
    return dict(zip(("sources", "kinds", "contents"), map(list, columns), strict=True))


@dataclass(frozen=True, slots=True)
class IssuerQueries:
    """What operators look at. Changes nothing."""

    connection: Connection[TupleRow]

    def campaigns(self) -> list[Row]:
        return self._rows("list_campaigns", {})

    def campaign(self, campaign_id: str) -> Row:
        if not (rows := self._rows("find_campaign", {"campaign_id": campaign_id})):
            raise CampaignUnknown(campaign_id)
        return rows[0]

    def tickets(
        self, *, order: str | None, campaign: str | None, email: str | None, limit: int
    ) -> list[Row]:
        return self._rows(
            "list_tickets",
            {"order_id": order, "campaign_id": campaign, "email": email, "limit": limit},
        )

    def _rows(self, name: str, arguments: Mapping[str, Any]) -> list[Row]:
        return self.connection.cursor(row_factory=dict_row).execute(SQL[name], arguments).fetchall()
