"""The events as JSON Schemas: what others may build on, and what a release may not break.

`schemas/json/*.json` is generated from the models (`python -m schemas.contract`), and
`schemas/json/released/` is the contract of the last release. A reader of the last release must
understand the events of this one, and a reader of this one the events of the last.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from schemas.callbacks import NATIVE, NativeOrder
from schemas.envelope import Snapshot
from schemas.fraud import FraudSignals
from schemas.orders import DeliveriesChanged, OrderDecided, OrderObserved, TicketsChanged

FOLDER = Path(__file__).with_name("json")
RELEASED = FOLDER / "released"
SNAPSHOTS: tuple[type[Snapshot], ...] = (
    OrderObserved,
    FraudSignals,
    OrderDecided,
    TicketsChanged,
    DeliveriesChanged,
)


def schemas() -> dict[str, dict[str, Any]]:
    """Return schemas by event type: of snapshots as they are written, of native orders as read."""
    written = {event.event_type: snapshot_schema(event) for event in SNAPSHOTS}
    return written | {NATIVE: NativeOrder.model_json_schema(mode="validation")}


def snapshot_schema(kind: type[Snapshot]) -> dict[str, Any]:
    """Return the schema of a snapshot, with its root in place and a type beside each enumeration
    of texts, which msgspec leaves out.
    """
    (reference,), definitions = msgspec.json.schema_components(
        [kind], ref_template="#/$defs/{name}"
    )
    root = definitions.pop(reference["$ref"].rpartition("/")[2])
    schema: dict[str, Any] = {**root, "$defs": definitions}
    for part in _objects(schema):
        if "enum" in part and all(isinstance(word, str) for word in part["enum"]):
            part["type"] = "string"
    return schema


def _objects(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from _objects(item)


def rendered() -> dict[str, str]:
    """Return the text of each file by its name."""
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    return {
        f"{name}.json": json.dumps(head | {"$id": name} | schema, indent=2, sort_keys=True) + "\n"
        for name, schema in schemas().items()
    }


def incompatibilities(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """Return what would break a reader or a writer of the old schema.

    An optional field may be added, and so may a word of an enumeration if its readers are deployed
    first.
    """
    return list(_Comparison(old, new).of(old, new, "$"))


@dataclass(frozen=True)
class _Comparison:
    """Two schemas, each with its own definitions. A recursive definition is followed once."""

    old_root: dict[str, Any]
    new_root: dict[str, Any]
    seen: set[str] = field(default_factory=set)

    def of(self, old: Any, new: Any, at: str) -> Iterator[str]:
        if (reference := old.get("$ref")) is not None:
            if reference in self.seen:
                return
            self.seen.add(reference)
        old, new = _resolved(old, self.old_root), _resolved(new, self.new_root)
        if old.get("type") != new.get("type"):
            yield f"{at}: was {old.get('type')}, is {new.get('type')}"
        yield from self._fields(old, new, at)
        yield from (
            f"{at}: the word {word!r} was removed"
            for word in old.get("enum", [])
            if word not in new.get("enum", [])
        )
        for keyword in ("items", "additionalProperties"):
            if isinstance(old.get(keyword), dict) and isinstance(new.get(keyword), dict):
                yield from self.of(old[keyword], new[keyword], f"{at}[]")
        choices, choices_left = _choices(old, self.old_root), _choices(new, self.new_root)
        for kind, choice in choices.items():
            if kind in choices_left:
                yield from self.of(choice, choices_left[kind], at)
            else:
                yield f"{at}: the choice {kind} was removed"

    def _fields(self, old: Any, new: Any, at: str) -> Iterator[str]:
        fields = new.get("properties", {})
        for name, content in old.get("properties", {}).items():
            if name in fields:
                yield from self.of(content, fields[name], f"{at}.{name}")
            else:
                yield f"{at}.{name}: was removed"
        required = [name for name in new.get("required", []) if name not in old.get("required", [])]
        yield from (f"{at}.{name}: is required now" for name in required)


def _resolved(schema: Any, root: dict[str, Any]) -> Any:
    return root["$defs"][schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema


def _choices(schema: Any, root: dict[str, Any]) -> dict[str, Any]:
    """Return the choices by their type; events have no choice between two objects."""
    return {str(_resolved(choice, root).get("type")): choice for choice in schema.get("anyOf", [])}


def main() -> int:
    FOLDER.mkdir(exist_ok=True)
    for name, text in rendered().items():
        path = FOLDER / name
        if not path.exists() or path.read_text("utf-8") != text:
            path.write_text(text, "utf-8")
            sys.stdout.write(f"schemas/json/{name} was written\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
