"""Verdicts that no clock of their sender orders: they are chained by their words. Pure.

A checker who signs no time tells transitions, "it was submitted and is approved now", and each of
them can be sent again by whoever has seen it. So a transition is one fact, first said counts, and
the verdict is that of the chain's one end: of the status that no transition leads away from. An old
`submitted -> approved` changes nothing behind an `approved -> declined`, for it is known; an honest
`declined -> approved` releases what was declined before. Where the chain has several ends, or runs
in a circle, nobody knows which came last: then what was ever declined stays declined, what was ever
pending stays pending, and a person decides.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping

from schemas.fraud import FraudVerdict, Word
from services.ingest.rules.facts import EPOCH, VERDICT, Fact

SEVERITY: dict[Word, int] = {"unchecked": 10, "approved": 10, "pending": 50, "declined": 90}
TRANSITION = re.compile(
    r"verdict:([a-z0-9-]{1,32})\|([a-z]{0,20})>([a-z]{1,20})/(declined|pending|approved)", re.ASCII
)
FAR_US = 10**16  # beyond every time that a record can have


def transition_fact(verdict: FraudVerdict, before: str, after: str) -> Fact:
    """`before` is empty when the checker does not say it. Its words are few: an order has a fact
    for each pair.
    """
    name = f"{VERDICT}{verdict.source}|{before}>{after}/{verdict.verdict}"
    return _first_report(name, verdict, rank=50)


def untimed_fact(verdict: FraudVerdict) -> Fact:
    """Of a checker who orders his verdicts by a time, one without it: older than all that have one.
    The severest stays.
    """
    return _first_report(f"{VERDICT}{verdict.source}", verdict, rank=SEVERITY[verdict.verdict])


def _first_report(name: str, verdict: FraudVerdict, rank: int) -> Fact:
    """Its time is the door's, which another reception does not change: the first has the greatest
    version, and a repeat says the same.
    """
    content = verdict.model_dump_json(exclude={"at"}).encode()
    first = FAR_US - int((verdict.at - EPOCH).total_seconds() * 1_000_000)
    version = f"0/{rank:02d}/{first:016d}/{hashlib.sha256(content).hexdigest()}"
    return Fact(name, version, verdict.__pydantic_serializer__.to_json(verdict))


def current_verdicts(facts: Mapping[str, Fact]) -> Iterator[tuple[str, bytes]]:
    """Of an order's facts, each checker's last word, as JSON, by his name (`source`, or
    `source:which of his checks`).
    """
    chains = dict[str, list[tuple[str, str, Word, Fact]]]()
    for name in sorted(facts):
        if match := TRANSITION.fullmatch(name):
            source, before, after, word = match.groups()
            chains.setdefault(source, []).append((before, after, _word(word), facts[name]))
        elif name.startswith(VERDICT):
            yield name.removeprefix(VERDICT), facts[name].content
    for source, chain in chains.items():
        yield source, last_transition(chain).content


def last_transition(chain: list[tuple[str, str, Word, Fact]]) -> Fact:
    """The transition that tells what stands. Of equals the one that was first said last."""
    left = {before for before, after, _, _ in chain if before != after}
    ends = [transition for transition in chain if transition[1] not in left] or chain
    worst = max(SEVERITY[word] for _, _, word, _ in ends)
    return min(
        (fact for _, _, word, fact in ends if SEVERITY[word] == worst),
        key=lambda fact: fact.version,
    )


def _word(text: str) -> Word:
    return "approved" if text == "approved" else "declined" if text == "declined" else "pending"
