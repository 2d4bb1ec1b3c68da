"""The JSON Schemas that others build on are current and valid, and no release breaks them."""

from __future__ import annotations

import copy
import json
from datetime import UTC, datetime
from uuid import UUID

import jsonschema
import pytest

from schemas import contract
from schemas.orders import OrderObserved, Person, Ticket, TicketsChanged

SCHEMAS = contract.schemas()


@pytest.mark.parametrize("name", sorted(contract.rendered()))
def test_the_committed_schema_is_that_of_the_model(name: str) -> None:
    text = (contract.FOLDER / name).read_text("utf-8")
    assert text == contract.rendered()[name], "run `python -m schemas.contract`"


@pytest.mark.parametrize("name", sorted(path.stem for path in contract.RELEASED.glob("*.json")))
def test_nothing_of_the_last_releases_contract_is_broken(name: str) -> None:
    released = json.loads((contract.RELEASED / f"{name}.json").read_text("utf-8"))
    assert contract.incompatibilities(released, SCHEMAS[name]) == []


def test_what_is_written_fits_its_schema() -> None:
    ticket = Ticket(
        ticket_id=UUID(int=1),
        line_id="1",
        ordinal=1,
        campaign_id="raffle",
        number="RFL-0001",
        code="A" * 26,
        status="Active",
        holder=Person(name="Ada", email="ada@example.org"),
        issued_at=datetime.now(UTC),
    )
    event = TicketsChanged(
        key="shop:1",
        generation=1,
        sequence=1,
        source="shop",
        external_id="1",
        buyer=Person(),
        tickets=(ticket,),
    )
    output = event.encode(time="2026-01-01T00:00:00Z")
    jsonschema.validate(json.loads(output.value or b""), SCHEMAS[TicketsChanged.event_type])


@pytest.mark.parametrize("change", ["removed", "type", "required", "word"])
def test_a_breaking_change_is_found(change: str) -> None:
    old = SCHEMAS[TicketsChanged.event_type]
    new = copy.deepcopy(old)
    if change == "removed":
        del new["$defs"]["Ticket"]["properties"]["number"]
    elif change == "type":
        new["properties"]["number"]["type"] = "integer"
    elif change == "required":
        new["properties"]["extra"] = {"type": "string"}
        new["required"] = [*new["required"], "extra"]
    else:
        new["$defs"]["Ticket"]["properties"]["status"]["enum"].remove("Won")
    assert len(contract.incompatibilities(old, new)) == 1


def test_an_optional_field_breaks_nothing() -> None:
    old = SCHEMAS[OrderObserved.event_type]
    new = copy.deepcopy(old)
    new["properties"]["note"] = {"type": "string", "default": ""}
    assert contract.incompatibilities(old, new) == []
