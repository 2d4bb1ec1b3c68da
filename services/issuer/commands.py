"""The commands and queries of operators for campaigns and tickets.

Applying is one command in one transaction with its audit row (services.runtime.admin.commands): all
campaigns of a file are applied, or none.
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
    """The commands that change campaigns."""

    def apply(self, definitions: Sequence[CampaignDefinition]) -> CommandResult:
        """Apply the definitions. Orders with waiting lines that the campaigns now take become due,
        and the issuer's timer issues their tickets.
        """
        arguments = {"campaigns": [definition.content() for definition in definitions]}
        return self.execute("campaigns apply", arguments, lambda: self._apply(definitions))

    def _apply(self, definitions: Sequence[CampaignDefinition]) -> Row:
        self.connection.execute(SQL["lock_all_campaigns"])
        campaign_ids = {"campaign_ids": [definition.id for definition in definitions]}
        rows = self.connection.execute(SQL["lock_campaigns_by_id"], campaign_ids).fetchall()
        stored = {row[0]: StoredCampaign._make(row[1:]) for row in rows}
        self._refuse(definitions, stored)
        changes = {
            definition.id: classify_change(definition, stored.get(definition.id))
            for definition in definitions
        }
        changed = [
            definition for definition in definitions if changes[definition.id].kind != "unchanged"
        ]
        self._save(changed, changes)
        self.connection.execute(SQL["drop_products"], campaign_ids)
        products = [
            (product, definition.id)
            for definition in definitions
            for product in definition.products()
        ]
        owners = {"campaign_ids": [owner for _, owner in products]}
        self.connection.execute(
            SQL["add_products"], _columns([product for product, _ in products]) | owners
        )
        reason = {"actor": self.command.actor, "cause": self.command.command_id}
        due = self.connection.execute(SQL["mark_due"], campaign_ids | reason).rowcount
        applied = [
            {"campaign_id": campaign_id, "change": change.kind, "version": change.version}
            for campaign_id, change in changes.items()
        ]
        return {"campaigns": applied, "due_orders": due}

    def _refuse(
        self, definitions: Sequence[CampaignDefinition], stored: Mapping[str, StoredCampaign]
    ) -> None:
        problems = [
            f"{definition.id}: {reason}"
            for definition in definitions
            for reason in refusals(definition, stored.get(definition.id))
        ]
        claimants = {
            product: definition.id
            for definition in definitions
            for product in definition.products()
        }
        campaign_ids = {"campaign_ids": [definition.id for definition in definitions]}
        arguments = _columns(list(claimants)) | campaign_ids
        owned = self.connection.execute(SQL["find_products_of_others"], arguments)
        for owner, source, kind, name in owned:
            claimant = claimants[source, kind, name]
            problems.append(f"{claimant}: {kind} {name} of {source} belongs to campaign {owner}")
        if problems:
            raise CampaignRefused("; ".join(problems))

    def _save(
        self, definitions: Sequence[CampaignDefinition], changes: Mapping[str, CampaignChange]
    ) -> None:
        if not definitions:
            return
        self.connection.execute(
            SQL["save_campaigns"],
            {
                "campaign_ids": [definition.id for definition in definitions],
                "versions": [changes[definition.id].version for definition in definitions],
                "definitions": [
                    orjson.dumps(definition.content()).decode() for definition in definitions
                ],
                "keys": [secrets.token_bytes(KEY_BYTES) for _ in definitions],
            },
        )


def _columns(products: Sequence[Product]) -> dict[str, Any]:
    columns = zip(*products, strict=True) if products else ((), (), ())
    return dict(zip(("sources", "kinds", "contents"), map(list, columns), strict=True))


@dataclass(frozen=True, slots=True)
class IssuerQueries:
    """The queries of operators. They change nothing."""

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
