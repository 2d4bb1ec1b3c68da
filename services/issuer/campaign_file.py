"""A file of campaigns, read and checked whole: every problem is told at once, with its place and
its remedy.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from schemas.text import did_you_mean
from services.issuer.errors import CampaignFileInvalid
from services.issuer.rules.campaigns import CampaignDefinition, contested
from services.runtime import files as bounded

KEYS = sorted(CampaignDefinition.model_fields)


def read(path: Path) -> list[CampaignDefinition]:
    """Raises CampaignFileInvalid."""
    try:
        document = bounded.read_toml(path)
    except bounded.FileUnusableError as error:
        raise CampaignFileInvalid(f"{path}: {error}") from None
    definitions: list[CampaignDefinition] = []
    problems = list(_problems(document, definitions)) or list(contested(definitions))
    if problems:
        raise CampaignFileInvalid("; ".join(f"{path}: {problem}" for problem in problems))
    return definitions


def _problems(document: dict[str, Any], into: list[CampaignDefinition]) -> Iterator[str]:
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
        strangers = [key for key in entry if key not in KEYS]
        yield from (f"{name}: {key} is no key{_nearest(key)}" for key in strangers)
        try:
            into.append(
                CampaignDefinition.model_validate(
                    {key: it for key, it in entry.items() if key in KEYS}
                )
            )
        except ValidationError as error:
            yield from (f"{name}: {problem}" for problem in _faults(error))


def _nearest(key: str) -> str:
    return did_you_mean(key, KEYS) or f"; there are {', '.join(KEYS)}"


def _faults(error: ValidationError) -> Iterator[str]:
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
