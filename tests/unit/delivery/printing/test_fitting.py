"""A text in its box: whole where it fits, cut with an ellipsis where it does not, never wider and
never more lines.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from services.delivery.printing.design.fitting import (
    CHARS_MAX,
    ELLIPSIS,
    FieldBox,
    FittedText,
    FittingRule,
    Valign,
    fit,
    lines_max,
    sizes,
)

SIZE = 10.0
TEXTS = st.text(st.sampled_from("abi WM-/@_.,é…"), max_size=60)
ANYTHING = st.text(max_size=300) | st.text("x ", min_size=900, max_size=1_100)
ROUNDING = 0.01  # CSS pixels by which a line may be wider than its box
NEAR = 1e-5  # heights are written with six decimals


def measure(text: str, scale: float) -> float:
    """A font of which some letters are wide; each letter has a width, and a blank too."""
    return (
        sum(
            {"W": 9.5, "M": 8.25, "i": 2.0, " ": 2.5, ".": 1.5}.get(character, 5.0)
            for character in text
        )
        * scale
    )


def plain(text: str) -> str:
    return " ".join(text.split())


@st.composite
def rules(draw: st.DrawFn) -> FittingRule:
    fit_by = draw(st.sampled_from(["ellipsis", "wrap", "shrink"]))
    lines = draw(st.integers(0 if fit_by == "wrap" else 1, 6))
    shrink = draw(st.integers(1, 100)) / 100 if fit_by == "shrink" else 1.0
    return FittingRule(fit_by, lines, shrink, draw(st.sampled_from(["top", "middle", "bottom"])))  # type: ignore[arg-type]  # one of the three


@st.composite
def boxes(draw: st.DrawFn) -> FieldBox:
    return FieldBox(
        width=draw(st.floats(10, 300)),
        height=draw(st.floats(4, 120)),
        size=SIZE,
        pitch=draw(st.floats(8, 25)),
        pitch_scales=draw(st.booleans()),
    )


def is_within(fitted: FittedText, rule: FittingRule, box: FieldBox) -> bool:
    is_narrow = all(measure(line, fitted.scale) <= box.width + ROUNDING for line in fitted.lines)
    return is_narrow and len(fitted.lines) <= lines_max(rule, box, fitted.scale)


def greedy(text: str, lines_max: int, width: float, scale: float) -> bool:
    """Could a careful typesetter set it whole? Word by word, and behind a sign that may end a
    line.
    """
    if not text or measure(text, scale) <= width + ROUNDING:
        return True
    lines, line = 1, ""
    for part in parts(text):
        if measure((line + part).strip(), scale) > width + ROUNDING:
            lines, line = lines + 1, ""
        if measure(part.strip(), scale) > width + ROUNDING:
            return False
        line += part
    return lines <= lines_max and lines_max > 1


def parts(text: str) -> list[str]:
    """`Anna-Lena von` is `Anna-`, `Lena `, `von`."""
    parts, part = [], ""
    for character, following in pairwise(text + "\0"):
        part += character
        if character == " " or (character in "-/@_" and following not in " \0"):
            parts.append(part)
            part = ""
    return [*parts, part]


@given(TEXTS.map(plain), rules(), boxes())
def test_no_line_is_wider_than_its_box_and_there_are_never_more_than_allowed(
    text: str, rule: FittingRule, box: FieldBox
) -> None:
    assert is_within(fit(text, rule, box, measure), rule, box)


@given(TEXTS.map(plain), rules(), boxes())
def test_nothing_is_lost_unless_it_is_cut(text: str, rule: FittingRule, box: FieldBox) -> None:
    fitted = fit(text, rule, box, measure)
    expected = "".join(fitted.lines).replace(" ", "")
    if not fitted.is_cut:
        assert expected == text.replace(" ", "")
    assert text.replace(" ", "").startswith(expected.removesuffix(ELLIPSIS))


@given(TEXTS.map(plain), rules(), boxes())
def test_what_lost_something_ends_with_an_ellipsis_and_is_called_cut(
    text: str, rule: FittingRule, box: FieldBox
) -> None:
    fitted = fit(text, rule, box, measure)
    if "".join(fitted.lines).replace(" ", "") != text.replace(" ", ""):
        assert fitted.is_cut
        assert fitted.lines[-1].endswith(ELLIPSIS)


@given(TEXTS.map(plain), rules(), boxes())
def test_it_has_the_largest_size_at_which_it_fits_completely(
    text: str, rule: FittingRule, box: FieldBox
) -> None:
    fitted = fit(text, rule, box, measure)
    fitting = [
        scale
        for scale in sizes(rule)
        if greedy(text, lines_max(rule, box, scale), box.width, scale)
    ]
    assert fitted.scale == (max(fitting) if fitting else min(sizes(rule)))
    assert fitted.is_cut == (not fitting)
    assert fitted.size == pytest.approx(SIZE * fitted.scale, abs=NEAR)


@given(rules())
def test_sizes_fall_from_its_own_to_the_smallest_allowed(rule: FittingRule) -> None:
    steps = sizes(rule)
    assert steps[0] == 1.0
    assert all(0 < larger - smaller < 0.051 for larger, smaller in pairwise(steps)), (
        "no more than 5 % at once"
    )
    assert list(steps) == sorted(set(steps), reverse=True)
    assert min(steps) >= rule.shrink - 1e-9 if rule.fit == "shrink" else steps == (1.0,)


@given(st.lists(st.text("abi", min_size=1, max_size=6), max_size=30), rules(), boxes())
def test_words_keep_their_order_and_are_divided_only_where_they_must_be(
    words: list[str], rule: FittingRule, box: FieldBox
) -> None:
    fitted = fit(" ".join(words), rule, box, measure)
    if not fitted.is_cut:
        assert " ".join(fitted.lines).split() == words


@given(TEXTS.map(plain), rules(), boxes(), st.sampled_from(["top", "middle", "bottom"]))
def test_it_stands_at_the_top_in_the_middle_or_at_the_bottom(
    text: str, rule: FittingRule, box: FieldBox, valign: Valign
) -> None:
    fitted = fit(text, replace(rule, valign=valign), box, measure)
    above = fitted.top
    below = box.height - above - len(fitted.lines) * box.pitch_at(fitted.scale)
    match valign:
        case "top":
            assert above == 0
        case "middle":
            assert above == pytest.approx(below, abs=NEAR)
        case "bottom":
            assert below == pytest.approx(0, abs=NEAR)


@given(TEXTS.map(plain), rules(), boxes())
def test_where_it_stands_does_not_decide_how_it_is_divided(
    text: str, rule: FittingRule, box: FieldBox
) -> None:
    results = {
        fit(text, replace(rule, valign=valign), box, measure).lines
        for valign in ("top", "middle", "bottom")
    }
    assert len(results) == 1


@given(TEXTS.map(plain), rules(), boxes(), st.floats(1.0, 3.0))
def test_in_a_larger_box_it_is_no_smaller(
    text: str, rule: FittingRule, box: FieldBox, times: float
) -> None:
    larger = replace(box, width=box.width * times, height=box.height * times)
    assert fit(text, rule, larger, measure).scale >= fit(text, rule, box, measure).scale


@example(
    " x" * 505,
    FittingRule("shrink", 1, 0.01, "top"),
    FieldBox(191.0, 4.0, SIZE, 8.0, pitch_scales=False),
)  # all that is tried fits
@given(ANYTHING, rules(), boxes() | boxes().map(lambda box: replace(box, width=0.5, height=0.5)))
def test_it_comes_to_an_end_with_anything_in_any_box(
    text: str, rule: FittingRule, box: FieldBox
) -> None:
    """Blanks in a row, a box that is narrower than an ellipsis, thousands of letters."""
    fitted = fit(text, rule, box, measure)
    assert len(fitted.lines) <= lines_max(rule, box, fitted.scale)
    assert len(fitted.lines[0]) <= CHARS_MAX + len(ELLIPSIS) if fitted.lines else True
    assert all("\n" not in line for line in fitted.lines) or "\n" in text


@pytest.mark.parametrize("text", ["word " * 2_000, "x" * 10_000, "a-b" * 3_400])
def test_ten_thousand_characters_are_measured_some_hundred_times(text: str) -> None:
    """At all sizes together: a customer's long name costs no more than that."""
    calls = [0]

    def counted(words: str, scale: float) -> float:
        calls[0] += 1
        return measure(words, scale)

    fitted = fit(
        text.strip(),
        FittingRule("shrink", 8, 0.05, "top"),
        FieldBox(150, 200, SIZE, 12, pitch_scales=True),
        counted,
    )
    assert fitted.is_cut
    assert fitted.lines[-1].endswith(ELLIPSIS)
    assert calls[0] < 2_000


@pytest.mark.parametrize(
    ("text", "width", "lines", "expected"),
    [
        ("Ada Lovelace", 60, 1, ("Ada Lovelace",)),
        ("Ada Lovelace", 40, 2, ("Ada", "Lovelace")),
        ("Ada Lovelace", 30, 1, ("Ada L…",)),
        ("Ada Lovelace", 15, 2, ("Ada", "Lo…")),
        ("Anna-Lena", 30, 2, ("Anna-", "Lena")),
        ("ada@example.org", 52, 2, ("ada@", "example.org")),
        ("Abcdefgh", 20, 2, ("Abcd", "efgh")),
        ("Ada  ", 60, 1, ("Ada  ",)),
        ("", 60, 3, ()),
    ],
)
def test_names_are_divided_where_a_reader_expects_it(
    text: str, width: float, lines: int, expected: tuple[str, ...]
) -> None:
    fitted = fit(
        text,
        FittingRule("wrap", lines, 1.0, "top"),
        FieldBox(width, 100, SIZE, 12, pitch_scales=True),
        measure,
    )
    assert fitted.lines == expected


@pytest.mark.parametrize(("pitch_scales", "lines"), [(True, 2), (False, 1)])
def test_a_line_height_in_pixels_does_not_shrink_with_the_text(
    pitch_scales: bool, lines: int
) -> None:
    box = FieldBox(width=30, height=14, size=SIZE, pitch=14, pitch_scales=pitch_scales)
    assert lines_max(FittingRule("shrink", 4, 0.5, "top"), box, 0.5) == lines
