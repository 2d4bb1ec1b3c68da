"""Verdicts without a signed time, ordered by the statuses that they name. Pure.

A fraud checker that signs no time sends transitions, "it was submitted and is approved now", and
anyone who has seen one can send it again. So a transition is one fact, its first report wins, and
the verdict is that of the chain's end: of the status that no transition leads away from. An old
`submitted -> approved` changes nothing after `approved -> declined`, because it is known; a genuine
`declined -> approved` releases what was declined before. If the chain has several ends, or is a
cycle, nobody knows which came last: then an order that was ever declined stays declined, one that
was ever pending stays pending, and a person decides.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping

import msgspec

from schemas.fraud import FraudStatus, FraudVerdict
from schemas.structs import encode, encode_checked
from services.ingest.rules.facts import EPOCH, VERDICT, Fact

SEVERITY: dict[FraudStatus, int] = {"unchecked": 10, "approved": 10, "pending": 50, "declined": 90}
TRANSITION = re.compile(
    r"verdict:([a-z0-9-]{1,32})\|([a-z]{0,20})>([a-z]{1,20})/(declined|pending|approved)", re.ASCII
)
FAR_US = 10**16  # beyond every time that a record can have


def transition_fact(verdict: FraudVerdict, before: str, after: str) -> Fact:
    """Return a transition as a fact. `before` is empty if the checker does not name it. Its words
    are few: an order has one fact for each pair.
    """
    name = f"{VERDICT}{verdict.source}|{before}>{after}/{verdict.verdict}"
    return _first_report(name, verdict, rank=50)


def untimed_fact(verdict: FraudVerdict) -> Fact:
    """Return a verdict without a time, of a checker that orders its verdicts by one: older than all
    that have a time. The severest wins.
    """
    return _first_report(f"{VERDICT}{verdict.source}", verdict, rank=SEVERITY[verdict.verdict])


def _first_report(name: str, verdict: FraudVerdict, rank: int) -> Fact:
    """Return the fact with the greatest version for the first report; another reception does not
    change it, and a repeat has the same content.
    """
    content = encode(msgspec.structs.replace(verdict, at=EPOCH))
    first = FAR_US - int((verdict.at - EPOCH).total_seconds() * 1_000_000)
    version = f"0/{rank:02d}/{first:016d}/{hashlib.sha256(content).hexdigest()}"
    return Fact(name, version, encode_checked(verdict))


def current_verdicts(facts: Mapping[str, Fact]) -> Iterator[tuple[str, bytes]]:
    """Yield each checker's current verdict as JSON, by its name (`source`, or `source:check`)."""
    chains = dict[str, list[tuple[str, str, FraudStatus, Fact]]]()
    for name in sorted(facts):
        if match := TRANSITION.fullmatch(name):
            source, before, after, word = match.groups()
            chains.setdefault(source, []).append((before, after, _fraud_status(word), facts[name]))
        elif name.startswith(VERDICT):
            yield name.removeprefix(VERDICT), facts[name].content
    for source, chain in chains.items():
        yield source, last_transition(chain).content


def last_transition(chain: list[tuple[str, str, FraudStatus, Fact]]) -> Fact:
    """Return the transition that decides. Of equals, the one that was first reported last."""
    left = {before for before, after, _, _ in chain if before != after}
    ends = [transition for transition in chain if transition[1] not in left] or chain
    worst = max(SEVERITY[word] for _, _, word, _ in ends)
    return min(
        (fact for _, _, word, fact in ends if SEVERITY[word] == worst),
        key=lambda fact: fact.version,
    )


def _fraud_status(text: str) -> FraudStatus:
    return "approved" if text == "approved" else "declined" if text == "declined" else "pending"
