"""What cannot be stamped: WeasyPrint sets those texts, at the largest size of their rule at which
they fit.

A plate with such texts in it is a plate like any other: the rest of its fields is stamped. So a
name that is spelled in another script costs one layout, however many tickets of the order say it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from services.delivery.printing.compile.compiler import (
    PLACEHOLDER,
    KitOf,
    blank_square,
    plate_of_page,
    unfitted,
)
from services.delivery.printing.compile.layout import PageTemplate, measure_lines
from services.delivery.printing.design.fitting import CHARS_MAX, SLACK, FittedText, lines_max, sizes
from services.delivery.printing.design.page import UnstampableText
from services.delivery.printing.plates import FieldSpot, Plate

TRIES_MAX = 5  # layouts for one text


def plate_with_texts(
    sheet: PageTemplate,
    plate: Plate,
    texts: Mapping[str, FittedText | str],
    kit_of: KitOf,
    code: tuple[str, int] | None = None,
) -> Plate:
    """The plate with these texts fixed in it: lines that were fitted as they are, others as
    WeasyPrint breaks them.

    `code`: drawn as well (SVG path, modules a side), so that nothing is left to stamp where all
    texts are given.
    """
    square = code or blank_square(plate.modules)
    given: dict[str, FittedText | UnstampableText] = dict.fromkeys(
        sheet.fields, unfitted(PLACEHOLDER)
    )
    given |= {name: text for name, text in texts.items() if isinstance(text, FittedText)}
    odd = {name: text[:CHARS_MAX] for name, text in texts.items() if isinstance(text, str)}
    given |= FittingTrial(sheet, plate, odd, given, square).fitted()
    laid_out = sheet.lay(given, square)
    return plate_of_page(
        sheet,
        laid_out,
        kit_of,
        modules=plate.modules,
        fixed=texts.keys(),
        is_code_fixed=code is not None,
    )


@dataclass(frozen=True)
class FittingTrial:
    """Sizes are tried by halves of what is left, all odd texts at once; then each is moved to its
    height.
    """

    sheet: PageTemplate
    plate: Plate
    odd: Mapping[str, str]
    given: Mapping[str, FittedText | UnstampableText]
    square: tuple[str, int]

    def fitted(self) -> dict[str, UnstampableText]:
        """What fits at no size is cut at the smallest."""
        if not self.odd:
            return {}
        steps = {name: sizes(self.plate.spots[name].rule) for name in self.odd}
        low, high = dict.fromkeys(self.odd, 0), {name: len(steps[name]) for name in self.odd}
        at = dict.fromkeys(self.odd, 0)  # the largest that fits lies from low to high
        for _ in range(TRIES_MAX):
            tried = {
                name: attempted_text(self.plate.spots[name], text, steps[name][at[name]])
                for name, text in self.odd.items()
            }
            for name, (lines, height, width) in self._measured(tried).items():
                if fits(self.plate.spots[name], tried[name], lines, height, width):
                    high[name] = at[name]
                else:
                    low[name] = at[name] + 1
            if all(low[name] >= high[name] for name in self.odd):
                break
            at = {
                name: min((low[name] + high[name]) // 2, len(steps[name]) - 1) for name in self.odd
            }
        last = {
            name: replace(
                attempted_text(
                    self.plate.spots[name], text, steps[name][min(high[name], len(steps[name]) - 1)]
                ),
                is_cut=high[name] >= len(steps[name]),
            )
            for name, text in self.odd.items()
        }
        heights = self._measured(last)
        if higher := self._with_fewer_lines(last, heights):
            last |= higher
            heights = self._measured(last)
        return {
            name: replace(it, top=top_offset(self.plate.spots[name], heights[name][1]))
            for name, it in last.items()
        }

    def _with_fewer_lines(
        self, last: Mapping[str, UnstampableText], heights: Mapping[str, tuple[int, float, float]]
    ) -> dict[str, UnstampableText]:
        """Of texts that are cut: a font of another script may have higher lines than the field's
        own.
        """
        rooms = {name: self.plate.spots[name].box.height + 1 for name in last}
        return {
            name: replace(it, lines=max(1, int(rooms[name] * heights[name][0] / heights[name][1])))
            for name, it in last.items()
            if it.is_cut and heights[name][0] > 1 and heights[name][1] > rooms[name]
        }

    def _measured(
        self, tried: Mapping[str, UnstampableText]
    ) -> dict[str, tuple[int, float, float]]:
        laid_out = self.sheet.lay({**self.given, **tried}, self.square)
        return {name: measure_lines(laid_out, self.sheet.fields[name].element) for name in tried}


def attempted_text(spot: FieldSpot, text: str, scale: float) -> UnstampableText:
    return UnstampableText(
        text,
        spot.box.size * scale,
        0.0,
        lines_max(spot.rule, spot.box, scale),
        is_cut=False,
        is_upper=spot.upper,
    )


def fits(spot: FieldSpot, it: UnstampableText, lines: int, height: float, width: float) -> bool:
    return (
        lines <= it.lines
        and width <= spot.box.width + SLACK
        and (height <= spot.box.height + 1 or lines == 1)
    )


def top_offset(spot: FieldSpot, height: float) -> float:
    spare = spot.box.height - height
    return {"top": 0.0, "middle": spare / 2, "bottom": spare}[spot.rule.valign]
