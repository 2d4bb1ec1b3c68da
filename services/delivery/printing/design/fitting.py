"""How a text fills its box, the same for both ways of printing. Pure: the caller measures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import Literal

Fit = Literal["ellipsis", "wrap", "shrink"]
Valign = Literal["top", "middle", "bottom"]
Align = Literal["left", "center", "right"]
Measure = Callable[[str, float], float]  # text and scale -> width in CSS pixels

ELLIPSIS = "…"
STEPS = 20  # of shrinking, each 5 % of the size
SLACK = 0.01  # CSS pixels: what rounding may add
CHARS_MAX = 1_000  # more are not tried; no box of a ticket holds more
BREAKS_AFTER = "-/@_"  # a line may end after these, in addresses and double names


@dataclass(frozen=True, slots=True)
class FittingRule:
    """How a text may be fitted. `lines` 0: as many as the box holds. `shrink`: the smallest part of
    its size that a text may have.
    """

    fit: Fit
    lines: int
    shrink: float
    valign: Valign


@dataclass(frozen=True, slots=True)
class FieldBox:
    """A field's box, in CSS pixels. `pitch` is the line height at full size. `pitch_scales`: the
    line height shrinks with the font size, as a number does in CSS.
    """

    width: float
    height: float
    size: float
    pitch: float
    pitch_scales: bool

    def pitch_at(self, scale: float) -> float:
        return self.pitch * scale if self.pitch_scales else self.pitch

    def lines_at(self, scale: float) -> int:
        return int((self.height + SLACK) / self.pitch_at(scale))


@dataclass(frozen=True, slots=True)
class FittedText:
    """The lines of a text at a size. `top` is how far the first line's box is below the field's, in
    CSS pixels.
    """

    lines: tuple[str, ...]
    scale: float
    size: float
    top: float
    is_cut: bool = False


def fit(text: str, rule: FittingRule, box: FieldBox, measure: Measure) -> FittedText:
    """Return the text at the largest size at which all of it fits. If there is none, return as much
    of it as fits at the smallest size.
    """
    shortened, scales = text[:CHARS_MAX], sizes(rule)
    for scale in scales:
        lines = wrapped_lines(
            shortened, lines_max(rule, box, scale), box.width, partial(at_scale, measure, scale)
        )
        if lines is not None and len(shortened) == len(text):
            return placed_lines(lines, rule, box, scale, is_cut=False)
    scale = scales[-1]
    room = max(1, lines_max(rule, box, scale))
    lines = truncated(
        shortened,
        room,
        box.width,
        partial(at_scale, measure, scale),
        is_all=len(shortened) == len(text),
    )
    return placed_lines(lines, rule, box, scale, is_cut=True)


def at_scale(measure: Measure, scale: float, text: str) -> float:
    return measure(text, scale)


@cache
def sizes(rule: FittingRule) -> tuple[float, ...]:
    """Return the sizes to try as parts of the full size, the largest first."""
    if rule.fit != "shrink":
        return (1.0,)
    return (
        1.0,
        *(step / STEPS for step in range(STEPS - 1, 0, -1) if step / STEPS >= rule.shrink - 1e-9),
    )


def lines_max(rule: FittingRule, box: FieldBox, scale: float) -> int:
    """Return how many lines fit. A box that is lower than one line holds one, which its author sees
    in the preview.
    """
    held = max(1, box.lines_at(scale))
    return min(held, rule.lines) if rule.lines else held


def placed_lines(
    lines: tuple[str, ...], rule: FittingRule, box: FieldBox, scale: float, *, is_cut: bool
) -> FittedText:
    spare = box.height - len(lines) * box.pitch_at(scale)
    top = {"top": 0.0, "middle": spare / 2, "bottom": spare}[rule.valign]
    # Rounded as it is written: the last digit decides on which row of pixels a rasteriser puts a
    # line.
    return FittedText(lines, scale, round(box.size * scale, 6), round(top, 6), is_cut)


def wrapped_lines(
    text: str, lines_max: int, width: float, measure: Callable[[str], float]
) -> tuple[str, ...] | None:
    """Return all of the text in at most so many lines, divided where a reader expects it, or None
    if it does not fit.
    """
    if not text:
        return ()
    if measure(text) <= width + SLACK:
        return (text,)
    if lines_max == 1:
        return None
    lines: list[str] = []
    remaining = pieces(text)
    while remaining:
        if len(lines) == lines_max:
            return None
        count = parts_that_fit(remaining, width, measure)
        if count == 0:
            return None
        lines.append("".join(remaining[:count]).strip())
        remaining = remaining[count:]
    return tuple(lines)


def pieces(text: str) -> list[str]:
    """Cut the text after each space and each sign that may end a line."""
    parts, start = [], 0
    for index, character in enumerate(text[:-1]):
        ends = character == " " or (character in BREAKS_AFTER and text[index + 1] != " ")
        if ends:
            parts.append(text[start : index + 1])
            start = index + 1
    return [*parts, text[start:]]


def parts_that_fit(parts: list[str], width: float, measure: Callable[[str], float]) -> int:
    """Return how many parts fill one line, by bisection: a longer text is never narrower."""
    low, high = 0, min(len(parts), 1)
    while high <= len(parts) and measure("".join(parts[:high]).strip()) <= width + SLACK:
        low, high = high, high * 2
        if low == len(parts):
            return low
    high = min(high, len(parts) + 1)
    while high - low > 1:
        middle = (low + high) // 2
        if measure("".join(parts[:middle]).strip()) <= width + SLACK:
            low = middle
        else:
            high = middle
    return low


def truncated(
    text: str, lines_max: int, width: float, measure: Callable[[str], float], *, is_all: bool
) -> tuple[str, ...]:
    """Return as many lines as there is room for, with an ellipsis. Words are divided if they must
    be.
    """
    lines: list[str] = []
    remaining = text
    while len(lines) < lines_max - 1 and remaining:
        parts = pieces(remaining)
        line = (
            "".join(parts[: parts_that_fit(parts, width, measure)])
            or remaining[: max(1, prefix(remaining, "", width, measure))]
        )
        lines.append(line.strip())
        remaining = remaining[len(line) :].lstrip()
    if is_all and not remaining:
        return tuple(lines)
    if is_all and measure(remaining) <= width + SLACK:
        return (*lines, remaining)
    if not remaining:
        remaining = lines.pop()
    return (*lines, remaining[: prefix(remaining, ELLIPSIS, width, measure)].rstrip() + ELLIPSIS)


def prefix(text: str, suffix: str, width: float, measure: Callable[[str], float]) -> int:
    """Return how many characters of the text fit one line with the suffix."""
    low, high = 0, len(text) + 1
    while high - low > 1:
        middle = (low + high) // 2
        if measure(text[:middle].rstrip() + suffix) <= width + SLACK:
            low = middle
        else:
            high = middle
    return low
