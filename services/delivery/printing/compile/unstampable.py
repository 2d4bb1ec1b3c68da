"""Texts that cannot be stamped. WeasyPrint sets them, at the largest size of their rule at which
they fit.

A plate with such texts in it is a plate like any other, whose other fields are stamped. So a name
in another script is laid out once, however many tickets of the order show it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from services.delivery.printing.compile.compiler import (
    SAMPLE_TEXT,
    SubsetOf,
    blank_square,
    plate_of_page,
    unfitted,
)
from services.delivery.printing.compile.layout import PageTemplate, measure_lines
from services.delivery.printing.design.fitting import CHARS_MAX, SLACK, FittedText, lines_max, sizes
from services.delivery.printing.design.page import UnstampableText
from services.delivery.printing.plates import Plate, PlateField

TRIES_MAX = 5  # layouts for one text


def plate_with_texts(
    template: PageTemplate,
    plate: Plate,
    texts: Mapping[str, FittedText | str],
    subset_of: SubsetOf,
    code: tuple[str, int] | None = None,
) -> Plate:
    """Return the plate with these texts fixed in it: fitted lines as they are, others as WeasyPrint
    breaks them. A `code` (SVG path, modules a side) is drawn as well.
    """
    square = code or blank_square(plate.modules)
    field_texts: dict[str, FittedText | UnstampableText] = dict.fromkeys(
        template.fields, unfitted(SAMPLE_TEXT)
    )
    field_texts |= {name: text for name, text in texts.items() if isinstance(text, FittedText)}
    unstampable = {name: text[:CHARS_MAX] for name, text in texts.items() if isinstance(text, str)}
    field_texts |= UnstampableFitter(template, plate, unstampable, field_texts, square).fitted()
    laid_out = template.lay_out(field_texts, square)
    return plate_of_page(
        template,
        laid_out,
        subset_of,
        modules=plate.modules,
        fixed=texts.keys(),
        is_code_fixed=code is not None,
    )


@dataclass(frozen=True)
class UnstampableFitter:
    """Finds the sizes of all unstampable texts at once, by bisection, and then their heights."""

    template: PageTemplate
    plate: Plate
    unstampable: Mapping[str, str]
    field_texts: Mapping[str, FittedText | UnstampableText]
    square: tuple[str, int]

    def fitted(self) -> dict[str, UnstampableText]:
        """Return the texts at their sizes. What fits at no size is truncated at the smallest."""
        if not self.unstampable:
            return {}
        steps = {name: sizes(self.plate.fields[name].rule) for name in self.unstampable}
        chosen = self._largest_that_fit(steps)
        texts = {
            name: replace(
                attempted_text(
                    self.plate.fields[name],
                    text,
                    steps[name][min(chosen[name], len(steps[name]) - 1)],
                ),
                is_cut=chosen[name] >= len(steps[name]),
            )
            for name, text in self.unstampable.items()
        }
        heights = self._measured(texts)
        if changed := self._with_fewer_lines(texts, heights):
            texts |= changed
            heights = self._measured(texts)
        return {
            name: replace(text, top=top_offset(self.plate.fields[name], heights[name][1]))
            for name, text in texts.items()
        }

    def _largest_that_fit(self, steps: Mapping[str, tuple[float, ...]]) -> dict[str, int]:
        """Return which size each text gets; the number of sizes, if it fits at none."""
        low = dict.fromkeys(self.unstampable, 0)
        high = {name: len(steps[name]) for name in self.unstampable}
        at = dict.fromkeys(self.unstampable, 0)  # the largest that fits is in low..high
        for _ in range(TRIES_MAX):
            tried = {
                name: attempted_text(self.plate.fields[name], text, steps[name][at[name]])
                for name, text in self.unstampable.items()
            }
            for name, (lines, height, width) in self._measured(tried).items():
                if fits(self.plate.fields[name], tried[name], lines, height, width):
                    high[name] = at[name]
                else:
                    low[name] = at[name] + 1
            if all(low[name] >= high[name] for name in self.unstampable):
                break
            at = {
                name: min((low[name] + high[name]) // 2, len(steps[name]) - 1)
                for name in self.unstampable
            }
        return high

    def _with_fewer_lines(
        self, last: Mapping[str, UnstampableText], heights: Mapping[str, tuple[int, float, float]]
    ) -> dict[str, UnstampableText]:
        """Return the truncated texts that need fewer lines, because a font of another script has
        higher lines than the field's own.
        """
        rooms = {name: self.plate.fields[name].box.height + 1 for name in last}
        return {
            name: replace(
                text, lines=max(1, int(rooms[name] * heights[name][0] / heights[name][1]))
            )
            for name, text in last.items()
            if text.is_cut and heights[name][0] > 1 and heights[name][1] > rooms[name]
        }

    def _measured(
        self, tried: Mapping[str, UnstampableText]
    ) -> dict[str, tuple[int, float, float]]:
        laid_out = self.template.lay_out({**self.field_texts, **tried}, self.square)
        return {name: measure_lines(laid_out, self.template.fields[name].element) for name in tried}


def attempted_text(plate_field: PlateField, text: str, scale: float) -> UnstampableText:
    return UnstampableText(
        text,
        plate_field.box.size * scale,
        0.0,
        lines_max(plate_field.rule, plate_field.box, scale),
        is_cut=False,
        is_upper=plate_field.upper,
    )


def fits(
    plate_field: PlateField, attempted: UnstampableText, lines: int, height: float, width: float
) -> bool:
    return (
        lines <= attempted.lines
        and width <= plate_field.box.width + SLACK
        and (height <= plate_field.box.height + 1 or lines == 1)
    )


def top_offset(plate_field: PlateField, height: float) -> float:
    spare = plate_field.box.height - height
    return {"top": 0.0, "middle": spare / 2, "bottom": spare}[plate_field.rule.valign]
