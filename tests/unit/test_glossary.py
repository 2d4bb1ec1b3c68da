"""Names hold no word that the glossary bans, each term of our own is used, and the noun of each
class is defined: by the glossary, or by its field.
"""

from __future__ import annotations

import ast
import re
import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.docs import words
from deploy.docs.words import GLOSSARY, allowed, banned, counts, files, names, terms, totals

PAGE = GLOSSARY.read_text("utf-8")
RULE = banned(PAGE)
FIELD_WORDS = Path(__file__).with_name("field_words.toml")
PRODUCT = {"services", "schemas"}
HINT = "run `python -m deploy.docs.words --write` once it is less"


def test_no_name_holds_a_banned_word_but_those_that_are_counted() -> None:
    now, listed = counts(RULE, files()), allowed()
    more = {
        f"{path}: {word}"
        for path, words_held in now.items()
        for word, count in words_held.items()
        if count > listed.get(path, {}).get(word, 0)
    }
    assert not more, "`python -m deploy.docs.words --where WORD` prints the names"


def test_the_list_of_what_still_holds_one_only_shrinks() -> None:
    assert totals(allowed()) == totals(counts(RULE, files())), HINT


def test_every_term_of_our_own_is_used() -> None:
    used = {word for path in files() for name in names(path) for word in words.words_of(name)}
    ours = [term for term, is_ours in terms(PAGE).items() if is_ours]
    assert ours
    assert [term for term in ours if not {stem(word) for word in term.split()} <= stems(used)] == []


def stem(word: str) -> str:
    """Singular and plural are one; names say `conserved` where prose says conservation."""
    return word.removesuffix("s").removesuffix("ation")[:6]


def stems(used: set[str]) -> set[str]:
    return {stem(word) for word in used}


def test_the_noun_of_every_class_is_defined() -> None:
    defined = field_words() | glossary_phrases()
    undefined = {name for name in class_names() if not set(last_words(name)) & defined}
    assert not undefined, f"rename them, or see {GLOSSARY.name} and {FIELD_WORDS.name}"


def test_every_word_of_a_field_is_needed_once() -> None:
    words_by_group = tomllib.loads(FIELD_WORDS.read_text("utf-8"))
    counted = Counter(word for text in words_by_group.values() for word in text.split())
    in_glossary = glossary_phrases()
    needed = {
        phrase
        for name in class_names()
        if not set(last_words(name)) & in_glossary
        for phrase in last_words(name)
    }
    assert [word for word, count in counted.items() if count > 1] == []
    assert sorted(counted.keys() - needed) == []
    assert sorted(counted.keys() & (RULE.anywhere | in_glossary)) == []


@pytest.mark.parametrize(
    ("name", "phrases"),
    [
        ("Lane", {"lane"}),
        ("PlateObjects", {"objects", "plate objects", "object", "plate object"}),
        ("Queries", {"queries", "querie", "query"}),
        ("_JobDeadLetter", {"letter", "dead letter", "job dead letter"}),
    ],
)
def test_a_class_name_ends_in_its_noun(name: str, phrases: set[str]) -> None:
    assert set(last_words(name)) == phrases


def class_names() -> Iterator[str]:
    for path in files():
        if path.suffix == ".py" and path.relative_to(words.ROOT).parts[0] in PRODUCT:
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(node, ast.ClassDef):
                    yield node.name


def last_words(name: str) -> Iterator[str]:
    """The last word of a class name, its last two and so on, in plural and singular."""
    *before, last = words.words_of(name)
    for noun in {last, last.removesuffix("s"), re.sub("ies$", "y", last)}:
        for start in range(len(before) + 1):
            yield " ".join([*before[start:], noun])


def field_words() -> set[str]:
    groups = tomllib.loads(FIELD_WORDS.read_text("utf-8"))
    return {word for text in groups.values() for word in text.split()}


def glossary_phrases() -> set[str]:
    return {" ".join(words.words_of(part)) for term in terms(PAGE) for part in term.split(", ")}


def test_every_term_stands_once_and_none_is_banned() -> None:
    rows = [first.removesuffix(" (ours)") for first, _ in words.rows(PAGE, "term")]
    assert [term for term, count in Counter(rows).items() if count > 1] == []
    assert [term for term in rows if list(RULE.phrases_in(term.replace(" ", "_")))] == []


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("told", {"told"}),
        ("toldAgain", {"told"}),
        ("STUBLINE_DOOR_PORT", {"door"}),
        ("lettersOf", {"letters"}),
        ("dead_letters_of", set()),
        ("OpenDeadLetter", set()),
        ("gaveUp", {"gave up"}),
        ("it", {"it"}),
        ("split", set()),
        ("again", {"again"}),
        ("sent_again", set()),
    ],
)
def test_a_banned_word_is_found_as_a_word_and_not_inside_one(name: str, expected: set[str]) -> None:
    assert set(RULE.phrases_in(name)) == expected


def test_all_kinds_of_names_are_seen() -> None:
    source = (
        "class Told:\n    said: int\n\n    def say(self, door):\n        self.rest = turn = 1\n"
        "        return turn, 'stubline_away_total', 'a sentence that is told'\n"
    )
    held = {word for name in words.names_in_python(ast.parse(source)) for word in words_of(name)}
    assert held >= {"told", "said", "say", "door", "rest", "turn", "away"}


def words_of(name: str) -> set[str]:
    return set(RULE.phrases_in(name))


def test_a_moved_file_is_no_growth_and_a_new_name_is() -> None:
    before = {"services/a.py": {"told": 2}}
    assert words.grown(before, {"services/b.py": {"told": 2}}) == {}
    assert words.grown(before, {"services/a.py": {"told": 2, "said": 1}}) == {"said": 1}
