"""A stamped page and a page that WeasyPrint prints by itself are one page: the same glyphs, pixels
and text.

Glyphs, and what moves the pen between them, are equal; lines begin within PLACE of each other.

Pixels: pypdfium2 at 72, 144 and 300 dpi. No pixel of a page may differ by more than TOLERANCE in
any channel; 1 was the most seen, at 300 dpi. pdfium snaps glyphs to a grid finer than a pixel, by
where a stretch of one font begins; a line of ours is one stretch, as WeasyPrint's is, so they snap
alike.
"""

from __future__ import annotations

from functools import cache

import pytest
from PIL import Image, ImageDraw

from services.delivery.printing.compile.layout import measure_lines
from services.delivery.printing.design.fitting import lines_max
from services.delivery.printing.stamping import PageStamp, normalized
from tests.support.corpus import LATIN, ODD
from tests.support.pdfs import lines_of
from tests.support.rendering import (
    ADA,
    SUBSETS,
    VARIANTS,
    CompiledDesign,
    about,
    compiled_design,
    difference,
    payload,
    picture,
    picture_wide,
    scanned,
    squeezed,
    text_of,
)

TOLERANCE = 2  # of 255, in each channel
PLACE = 2e-6  # CSS pixels: the last digit that is written
ROUNDING = 0.02  # CSS pixels by which a line may seem wider than its box
FIELDS = tuple(ADA)


def spread(corpus: dict[str, str], shift: int) -> dict[str, str]:
    """Another text into each field; with each turn, each text moves to the next field."""
    texts = list(corpus.values())
    return {name: texts[(at + shift) % len(texts)] for at, name in enumerate(FIELDS)}


# Each text twice on each design, in another size and in another field.
PAGES = [
    (variant, 9 * at + len(FIELDS) * shift)
    for at, variant in enumerate(VARIANTS)
    for shift in range(2)
]
# Each unstampable text in two of three fields, all variants.
UNSTAMPABLE_PAGES = [(variant, 3 * at) for at, variant in enumerate(VARIANTS)]


def unstampable_texts(shift: int) -> dict[str, str]:
    """Three texts that cannot be stamped, the rest as ever."""
    texts = list(ODD.values())
    return {
        **ADA,
        **{
            name: texts[(shift + at) % len(texts)]
            for at, name in enumerate(("holder", "purchaser", "email"))
        },
    }


@cache
def is_cut(variant: str, shift: int) -> bool:
    return any(
        text.is_cut
        for text in compiled_design(variant).unstampable(unstampable_texts(shift)).values()
    )


@cache
def rendered_twice(
    variant: str, shift: int, *, is_unstampable: bool = False
) -> tuple[bytes, bytes]:
    """Ours and WeasyPrint's. Made once for all laws."""
    texts = unstampable_texts(shift) if is_unstampable else spread(LATIN, shift)
    return compiled_design(variant).ours(texts), compiled_design(variant).weasyprints(texts)


def beyond(ours: bytes, weasyprints: bytes, dpi: float) -> float:
    """The part of the page's pixels that differs by more than the tolerance."""
    shown = picture(ours, dpi)
    return difference(shown, picture(weasyprints, dpi), TOLERANCE)[1] / (shown.width * shown.height)


def assert_same_picture(ours: bytes, weasyprints: bytes, *dpis: int) -> None:
    for dpi in dpis:
        assert beyond(ours, weasyprints, dpi) == 0, f"pixels differ at {dpi} dpi"


@pytest.mark.parametrize(("variant", "shift"), PAGES)
def test_what_is_stamped_has_the_pixels_that_weasyprint_prints(variant: str, shift: int) -> None:
    assert compiled_design(variant).split(spread(LATIN, shift))[1] == {}, (
        "nothing of the Latin corpus is laid out"
    )
    assert_same_picture(*rendered_twice(variant, shift), 72, 144, 300)


@pytest.mark.slow
def test_every_text_in_every_field_has_the_pixels_that_weasyprint_prints() -> None:
    """On one sheet or another."""
    for shift in range(len(LATIN)):
        assert_same_picture(*rendered_twice(VARIANTS[shift % len(VARIANTS)], shift), 144)


@pytest.mark.parametrize(("variant", "shift"), PAGES)
def test_each_line_has_the_same_glyphs_at_the_same_place(variant: str, shift: int) -> None:
    """Whatever a rasteriser makes of it."""
    ours, weasyprints = map(lines_of, rendered_twice(variant, shift))
    assert [glyphs for _, _, glyphs in ours] == [glyphs for _, _, glyphs in weasyprints]
    for (x, y, _), (same_x, same_y, _) in zip(ours, weasyprints, strict=True):
        assert abs(x - same_x) < PLACE
        assert abs(y - same_y) < PLACE


@pytest.mark.feature("SF-054")
@pytest.mark.parametrize(("variant", "shift"), PAGES)
def test_what_is_stamped_reads_as_weasyprint_prints_it(variant: str, shift: int) -> None:
    """By a search, by the clipboard: the same words in the same order."""
    ours, weasyprints = map(text_of, rendered_twice(variant, shift))
    assert ours == weasyprints


@pytest.mark.feature("SF-054")
@pytest.mark.parametrize(("variant", "shift"), PAGES)
def test_a_text_that_is_not_truncated_is_found_completely(variant: str, shift: int) -> None:
    at_work, texts = compiled_design(variant), spread(LATIN, shift)
    printed = squeezed(text_of(rendered_twice(variant, shift)[0]))
    for name, fitted in at_work.split(texts)[0].items():
        plate_field, lines = at_work.plate.fields[name], squeezed("".join(fitted.lines))
        expected = squeezed(normalized(texts[plate_field.field]))
        assert lines in printed, name
        assert fitted.is_cut or lines == (expected.upper() if plate_field.upper else expected), name


@pytest.mark.parametrize(("variant", "shift"), PAGES[::2])
def test_what_was_fitted_fits_for_weasyprint_too(variant: str, shift: int) -> None:
    """As many lines, none wider than the box: our measure is WeasyPrint's."""
    at_work = compiled_design(variant)
    fitted, _ = at_work.split(spread(LATIN, shift))
    laid_out = at_work.template.lay_out(fitted, None)
    for name, fit in fitted.items():
        count, _, width = measure_lines(laid_out, at_work.template.fields[name].element)
        assert count == len(fit.lines), name
        assert width <= at_work.plate.fields[name].box.width + ROUNDING, name


@pytest.mark.parametrize(
    "variant", [variant for variant in VARIANTS if variant.startswith("raffle")]
)
def test_a_short_text_stands_where_plain_html_puts_it(variant: str) -> None:
    """None of our lines, sizes and heights in the page: the texts written into its elements, and
    WeasyPrint alone.
    """
    at_work = compiled_design(variant)
    for spec in at_work.template.fields.values():
        for child in list(spec.element):
            spec.element.remove(child)
        spec.element.text = ADA[spec.name]
    bare = at_work.template._page.render(
        stylesheets=at_work.template._styles, font_config=at_work.template._fonts
    )
    assert lines_of(at_work.ours(ADA)) == lines_of(bare.write_pdf())


@pytest.mark.feature("SF-053", "SF-055")
@pytest.mark.parametrize("variant", VARIANTS)
def test_the_code_is_read_from_paper_and_from_a_phone(variant: str) -> None:
    """At 150 dpi, which any printer has; and from a page as wide as a small phone's screen, 360
    pixels.
    """
    at_work = compiled_design(variant)
    for number in range(3):
        pdf = at_work.ours(ADA, payload(number))
        assert scanned(picture(pdf, 150)) == [payload(number)]
        assert scanned(picture_wide(pdf, 360)) == [payload(number)]


@pytest.mark.parametrize(
    "code",
    [
        "STUBLINE:" + "7" * 25,
        "stubline:" + "a" * 26,
        "https://tickets.example/é/1",
        "0123456789" * 12,
    ],
)
def test_a_code_of_another_form_is_drawn_as_large_and_read(code: str) -> None:
    at_work = compiled_design("raffle-entry-a5")
    ours = at_work.ours(ADA, code)
    assert scanned(picture(ours, 150)) == [code]
    assert_same_picture(ours, at_work.weasyprints(ADA, code), 300)


def test_a_code_drawn_without_a_template_is_as_large() -> None:
    at_work = compiled_design("raffle-entry-a5")
    bare = at_work.writer.write(
        [PageStamp(at_work.plate, SUBSETS, None).page(ADA, payload())], about()
    )
    assert scanned(picture(bare, 150)) == [payload()]


@pytest.mark.parametrize(("variant", "shift"), UNSTAMPABLE_PAGES)
def test_what_is_laid_out_has_the_pixels_that_weasyprint_prints(variant: str, shift: int) -> None:
    assert compiled_design(variant).split(unstampable_texts(shift))[1], (
        "something of it cannot be stamped"
    )
    assert_same_picture(*rendered_twice(variant, shift, is_unstampable=True), 72, 144, 300)


@pytest.mark.slow
def test_every_laid_out_field_has_the_pixels_that_weasyprint_prints() -> None:
    for at, variant in enumerate(VARIANTS[::4]):
        at_work, texts = compiled_design(variant), spread(ODD, 5 * at)
        assert_same_picture(at_work.ours(texts), at_work.weasyprints(texts), 144)


@pytest.mark.feature("SF-054")
@pytest.mark.parametrize(("variant", "shift"), UNSTAMPABLE_PAGES)
def test_what_is_laid_out_reads_as_weasyprint_prints_it(variant: str, shift: int) -> None:
    """Where it is not cut: WeasyPrint lets the ellipsis stand for all that it cut off, and for that
    of the field before.
    """
    ours, weasyprints = map(text_of, rendered_twice(variant, shift, is_unstampable=True))
    if not is_cut(variant, shift):
        assert ours == weasyprints
    for stamped in ("number", "order", "status"):
        assert squeezed(ADA[stamped]) in squeezed(ours)


@pytest.mark.parametrize(("variant", "shift"), UNSTAMPABLE_PAGES)
def test_a_laid_out_text_stays_in_its_box_and_stands_where_its_rule_puts_it(
    variant: str, shift: int
) -> None:
    """Unless it is cut, which clips it; then its height stays inside all the same."""
    at_work = compiled_design(variant)
    fitted, unstampable = (
        at_work.split(unstampable_texts(shift))[0],
        at_work.unstampable(unstampable_texts(shift)),
    )
    laid_out = at_work.template.lay_out({**fitted, **unstampable}, None)
    for name, fit in unstampable.items():
        plate_field = at_work.plate.fields[name]
        count, height, width = measure_lines(laid_out, at_work.template.fields[name].element)
        assert (
            count
            <= fit.lines
            <= lines_max(plate_field.rule, plate_field.box, fit.size / plate_field.box.size)
        )
        assert fit.is_cut or width <= plate_field.box.width + ROUNDING
        spare = plate_field.box.height - height
        assert spare >= -1 or count == 1
        assert fit.top == pytest.approx(
            {"top": 0, "middle": spare / 2, "bottom": spare}[plate_field.rule.valign], abs=0.01
        )
        assert (
            plate_field.rule.shrink * plate_field.box.size - 0.01
            <= fit.size
            <= plate_field.box.size + 0.01
        )


@pytest.mark.parametrize(("variant", "shift"), UNSTAMPABLE_PAGES[::4])
def test_neighbours_of_a_laid_out_field_are_stamped_and_stand_where_they_stood(
    variant: str, shift: int
) -> None:
    at_work, texts = compiled_design(variant), unstampable_texts(shift)
    _, unstampable = at_work.split(texts)
    with_texts = at_work.plate_with_texts_of(unstampable)
    assert [name for name in at_work.plate.slots if name not in unstampable] == list(
        with_texts.slots
    )
    assert with_texts.fields == {
        name: plate_field
        for name, plate_field in at_work.plate.fields.items()
        if name not in unstampable
    }
    stamped = at_work.ours(
        {**texts, **{at_work.plate.fields[name].field: "" for name in unstampable}}
    )
    with_it, without = (
        masked(at_work, pdf, unstampable)
        for pdf in (rendered_twice(variant, shift, is_unstampable=True)[0], stamped)
    )
    assert difference(with_it, without, TOLERANCE)[1] == 0


def masked(at_work: CompiledDesign, pdf: bytes, names: dict[str, str]) -> Image.Image:
    """The page without these fields' boxes."""
    shown = picture(pdf, 96)
    pen = ImageDraw.Draw(shown)
    for name in names:
        plate_field = at_work.plate.fields[name]
        pen.rectangle(
            (
                plate_field.x - 2,
                plate_field.y - 2,
                plate_field.x + plate_field.box.width + 2,
                plate_field.y + plate_field.box.height + 2,
            ),
            "white",
        )
    return shown


@pytest.mark.feature("SF-053")
def test_the_code_beside_a_laid_out_field_is_read() -> None:
    at_work = compiled_design("event-ticket-phone")
    pdf = at_work.ours({**ADA, "holder": ODD["Chinese"]}, payload(7))
    assert scanned(picture(pdf, 150)) == scanned(picture_wide(pdf, 360)) == [payload(7)]


@pytest.mark.parametrize(
    "name", ["Greek", "Cyrillic", "Chinese", "Japanese", "Korean", "Devanagari", "Thai"]
)
def test_a_text_in_another_script_is_found_by_a_search(name: str) -> None:
    pdf = compiled_design("e-ticket-a4").ours({**ADA, "holder": (LATIN | ODD)[name]})
    assert squeezed((LATIN | ODD)[name]) in squeezed(text_of(pdf))


def test_the_proof_can_fail() -> None:
    """One letter, one accent, one place: each is seen at 144 dpi, and by its glyphs."""
    at_work = compiled_design("raffle-entry-a5")
    page = at_work.ours(ADA)
    for other in ("Ada Lovelaçe", "Ada Lovelac", "Ada Lovelace.", "Ada. Lovelace"):
        changed = at_work.ours({**ADA, "holder": other})
        assert lines_of(page) != lines_of(changed)
        with pytest.raises(AssertionError, match="pixels differ"):
            assert_same_picture(page, changed, 144)
