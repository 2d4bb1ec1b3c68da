"""Reads a file of campaigns. All problems of the file are reported at once, each with its place and
its remedy.
"""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from services.issuer.errors import CampaignFileInvalid
from services.issuer.rules.campaigns import CampaignDefinition, conflicts
from services.runtime import files as bounded

KEYS = sorted(CampaignDefinition.model_fields)


def read(path: Path) -> list[CampaignDefinition]:
    """Return the definitions. Raises CampaignFileInvalid."""
    try:
        document = bounded.read_toml(path)
    except bounded.FileUnusableError as error:
        raise CampaignFileInvalid(f"{path}: {error}") from None
    definitions: list[CampaignDefinition] = []
    problems = list(_problems(document, definitions)) or list(conflicts(definitions))
    if problems:
        raise CampaignFileInvalid("; ".join(f"{path}: {problem}" for problem in problems))
    return definitions


def _problems(document: dict[str, Any], definitions: list[CampaignDefinition]) -> Iterator[str]:
    for key in document:
        if key != "campaign":
            yield f"{key} is no key here; each campaign begins with [[campaign]]"
    entries = document.get("campaign", [])
    if (
        not isinstance(entries, list)
        or not entries
        or not all(isinstance(entry, dict) for entry in entries)
    ):
        yield "it holds no campaign; each begins with [[campaign]]"
        return
    for place, entry in enumerate(entries, 1):
        name = f"campaign {entry.get('id', f'no. {place}')}"
        unknown = [key for key in entry if key not in KEYS]
        yield from (f"{name}: {key} is no key{_suggestion(key)}" for key in unknown)
        known = {key: content for key, content in entry.items() if key in KEYS}
        try:
            definitions.append(CampaignDefinition.model_validate(known))
        except ValidationError as error:
            yield from (f"{name}: {problem}" for problem in _field_problems(error))


def _suggestion(key: str) -> str:
    near = get_close_matches(key, KEYS, n=1, cutoff=0.6)
    return f"; did you mean {near[0]}?" if near else f"; there are {', '.join(KEYS)}"


def _field_problems(error: ValidationError) -> Iterator[str]:
    for fault in error.errors(include_input=False, include_url=False, include_context=False):
        key = ".".join(map(str, fault["loc"]))
        text = (
            fault["msg"]
            .removeprefix("Value error, ")
            .removeprefix("Input ")
            .removeprefix("String ")
        )
        yield (
            f"{key} is missing"
            if fault["type"] == "missing"
            else f"{key} {text[0].lower()}{text[1:]}".strip()
        )
