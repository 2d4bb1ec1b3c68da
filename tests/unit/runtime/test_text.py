"""Laws of text from outside: Postgres and JSON take what is storable, and a terminal obeys nothing
that is printable.
"""

from __future__ import annotations

import json
import unicodedata

from hypothesis import given
from hypothesis.strategies import binary, characters, integers, text

from services.runtime.text import printable, storable

anything = text(characters())  # lone surrogates too


@given(anything, integers(0, 50))
def test_what_is_stored_is_utf8_without_nul_and_within_its_limit(content: str, limit: int) -> None:
    kept = storable(content, limit)
    assert len(kept) <= limit
    assert b"\0" not in kept.encode()  # and no UnicodeEncodeError
    assert json.loads(json.dumps(kept)) == kept


@given(text(characters(exclude_categories=["Cs", "Cc"]), max_size=100))
def test_harmless_text_is_stored_as_it_is(content: str) -> None:
    assert storable(content, 100) == content


@given(anything | binary())
def test_what_is_printed_cannot_act_on_a_terminal(content: str | bytes) -> None:
    shown = printable(content)
    assert all(c in "\n\t" or not unicodedata.category(c).startswith("C") for c in shown)


def test_escapes_are_spelled_out() -> None:
    assert printable("\x1b[31mred\u202e\r\x07") == "\\x1b[31mred\\u202e\\r\\x07"
    assert printable(b"\xff\x00ok\n") == "\\xff\\x00ok\n"
    assert printable(None) == "(none)"
