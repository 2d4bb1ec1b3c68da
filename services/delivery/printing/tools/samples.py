"""Texts for fields and campaigns, usual ones and hard ones. They are the same at each run."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Mapping
from datetime import date
from typing import get_args

from services.delivery.printing import wording
from services.delivery.printing.design.colours import tint
from services.delivery.printing.design.library import Design, FieldName
from services.delivery.printing.design.page import CampaignFacts
from services.delivery.printing.documents import SCHEME
from services.delivery.printing.wording import moment

EVENING, CLOCK, ZONE = date(2026, 12, 12), "19:30", "Europe/Vienna"
ISSUED = date(2026, 11, 21)
CODE_CHARS = 26
NAME_CHARS = 200
SHORT, LONG, EMPTY, ACCENTS = "short texts", "long texts", "empty texts", "accents"
LONGEST = {"number": 64, "order": 64, "status": 20, "issued": 30, "position": 20, "email": 254}
WORDS = "Wolfeschlegelsteinhausen-Bergerdorff of Llanfairpwllgwyngyll and Häßlingen, "
EVERY_ACCENT = "Ágnes Łukasiewicz-Őry, Çağla Ďurišová, Þór Ñúñez Øystein, İlkay Šķēle, Mihăiță Čepė"
NAME = (
    "The Very Grand Winter Concert of the Philharmonic Society and its Friends, with Choir, "
    "Organ and Soloists, "
)
VENUE = (
    "Great Hall of the Old Customs House, Upper North Quay 114 to 118, by the back door, "
    "first floor, "
)


def facts(design: Design, language: str = "") -> CampaignFacts:
    """Return the manifest's campaign. Its date is written in the design's first language; in other
    languages it is a date of this module.
    """
    campaign = design.manifest.campaign
    when = (
        moment(EVENING, CLOCK, ZONE, language)
        if campaign.when and is_translated(design, language)
        else campaign.when
    )
    return CampaignFacts(design.name, campaign.name, when, campaign.venue, tint(design.name))


def is_translated(design: Design, language: str) -> bool:
    return language not in {"", design.manifest.languages[0]}


def campaigns(design: Design, language: str = "") -> Iterator[tuple[str, CampaignFacts]]:
    """Yield campaigns with what is hard about each."""
    usual = facts(design, language)
    yield "the manifest's campaign", usual
    yield (
        "a campaign without date and venue",
        CampaignFacts(usual.campaign_id, usual.name, when="", venue="", tint=usual.tint),
    )
    when = moment(
        date(2026, 9, 30),
        CLOCK,
        "America/Argentina/ComodRivadavia",
        language or design.manifest.languages[0],
    )
    longest = CampaignFacts(
        usual.campaign_id, cut(NAME, NAME_CHARS), when, cut(VENUE, NAME_CHARS), usual.tint
    )
    yield f"a campaign whose name has {NAME_CHARS} characters", longest


def usual(design: Design, language: str = "") -> dict[str, str]:
    """Return the manifest's samples; in other languages than the first, with the texts that tickets
    have in them. Fields that the manifest lacks are never requested.
    """
    samples = {name: declaration.sample for name, declaration in design.manifest.fields.items()}
    own = written(language) if is_translated(design, language) else {}
    return {name: own.get(name, sample) for name, sample in samples.items()}


def written(language: str) -> dict[str, str]:
    """Return what Stubline writes on a ticket, by field."""
    words = wording.words(language)
    return {
        "status": words.status["Active"],
        "issued": wording.day(ISSUED, language),
        "position": words.position.format(at=2, count=5),
    }


def texts(design: Design, language: str = "") -> Iterator[tuple[str, Mapping[str, str]]]:
    """Yield texts with what is hard about each."""
    names = get_args(FieldName)
    yield "the manifest's samples", usual(design, language)
    yield SHORT, dict.fromkeys(names, "A")
    yield LONG, {name: cut(WORDS, LONGEST.get(name, NAME_CHARS)) for name in names}
    yield EMPTY, dict.fromkeys(names, "")
    yield ACCENTS, dict.fromkeys(names, EVERY_ACCENT)


def cut(words: str, chars: int) -> str:
    return (words * (chars // len(words) + 1))[:chars].rstrip(" ,").ljust(chars, ".")


def payload(number: int = 0) -> str:
    """Return the payload of a ticket that does not exist."""
    digest = base64.b32encode(hashlib.sha256(f"sample {number}".encode()).digest()).decode()
    return SCHEME + digest[:CODE_CHARS]
