"""The settings of approval, and the policy of each shop that follows from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from services.approval.rules import (
    PreparedPolicy,
    policy_of,
    prepare,
    status_of,
    trigger_problems,
    unlisted_statuses,
)
from services.runtime import files as bounded
from services.runtime.settings import ConfigurationError, LaneSettings, variable


class ApprovalSettings(LaneSettings):
    """Settings of approval: when tickets are due, for all shops and for those that differ."""

    model_config = SettingsConfigDict(env_prefix="STUBLINE_APPROVAL_", frozen=True)

    issue_when: str = Field(
        "completed",
        max_length=400,
        description="When an order's tickets are due: `payment_complete`, or statuses with "
        "commas. `processing` is met by `completed` too. A change applies to what is observed "
        "from then on.",
    )
    custom_statuses: str = Field(
        "",
        max_length=2_000,
        description="Statuses of your shops beyond WooCommerce's own, with commas, such as "
        "`approved`. If there are any, a trigger must be one of them or a known one. Empty: any "
        "status is accepted that does not look like a misspelt known one.",
    )
    policy_file: str = Field(
        "",
        description=(
            "TOML with what differs by shop: `[sources.shop]`, `issue_when = [...]`. "
            "Empty: nothing differs."
        ),
    )
    duplicate_window_s: int = Field(
        3_600,
        ge=0,
        le=31 * 86_400,
        description="How far apart two orders of one buyer, with the same total and lines, may be "
        "placed and still be shown as suspected duplicates. 0: none are. A change applies to what "
        "is observed from then on.",
    )


@dataclass(frozen=True, slots=True)
class Policies:
    """The policy of each source, and how far apart suspected duplicates may be placed."""

    default: PreparedPolicy
    by_source: Mapping[str, PreparedPolicy]
    duplicate_window_s: int = 3_600
    warnings: tuple[str, ...] = ()  # of what may be a mistake

    def of(self, source: str) -> PreparedPolicy:
        return self.by_source.get(source, self.default)


def policies(settings: ApprovalSettings) -> Policies:
    """Return the policies. Raises ConfigurationError with all problems, each with the setting
    that has it and its remedy.
    """
    custom = frozenset(
        status_of(word) for word in settings.custom_statuses.split(",") if word.strip()
    )
    problems: list[str] = []
    default = _policy(
        variable(ApprovalSettings, "issue_when"), settings.issue_when.split(","), custom, problems
    )
    warnings = _warnings(
        variable(ApprovalSettings, "issue_when"), settings.issue_when.split(","), custom
    )
    by_source = {}
    for source, words in _sources(settings.policy_file, problems).items():
        setting_path = f"{settings.policy_file}: sources.{source}.issue_when"
        warnings += _warnings(setting_path, words, custom)
        if (policy := _policy(setting_path, words, custom, problems)) is not None:
            by_source[source] = policy
    if problems or default is None:
        raise ConfigurationError("; ".join(problems))
    return Policies(default, by_source, settings.duplicate_window_s, tuple(warnings))


def _policy(
    setting_path: str, words: Sequence[str], custom: frozenset[str], problems: list[str]
) -> PreparedPolicy | None:
    wrong = [f"{setting_path} {problem}" for problem in trigger_problems(words, custom)]
    problems.extend(wrong)
    return None if wrong else prepare(policy_of(words))


def _warnings(setting_path: str, words: Sequence[str], custom: frozenset[str]) -> list[str]:
    return [
        f"{setting_path} names {name}, which no shop is known to have: orders wait until they "
        f"reach it. If it is right, add it to {variable(ApprovalSettings, 'custom_statuses')}"
        for name in unlisted_statuses(words, custom)
    ]


def _sources(file: str, problems: list[str]) -> dict[str, list[str]]:
    """Return the trigger of each source in the file, and add what is wrong to the problems."""
    if not file:
        return {}
    try:
        document = bounded.read_toml(Path(file))
    except bounded.FileUnusableError as error:
        problems.append(f"{file}: {error}")
        return {}
    problems.extend(
        f"{file}: {key} is no key here; only [sources.NAME] is"
        for key in document
        if key != "sources"
    )
    sources = document.get("sources", {})
    if not isinstance(sources, dict):
        problems.append(f"{file}: sources is a table: [sources.NAME]")
        return {}
    return {
        name: words
        for name, table in sources.items()
        if (words := _words(file, name, table, problems)) is not None
    }


def _words(file: str, source: str, table: Any, problems: list[str]) -> list[str] | None:
    if not isinstance(table, dict):
        problems.append(f"{file}: sources.{source} is a table")
        return None
    problems.extend(
        f"{file}: sources.{source}.{key} is no key; did you mean issue_when?"
        for key in table
        if key != "issue_when"
    )
    words = table.get("issue_when", [])
    if isinstance(words, str):
        return words.split(",")
    if isinstance(words, list) and all(isinstance(word, str) for word in words):
        return words
    problems.append(
        f'{file}: sources.{source}.issue_when is a list of statuses, such as ["completed"]'
    )
    return None
