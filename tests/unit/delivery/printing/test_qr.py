"""The quick way to a ticket's code against segno's own, and both ways to draw it against the
modules themselves.
"""

from __future__ import annotations

import random
import re
import zlib
from functools import cache
from itertools import pairwise
from typing import Any

import pytest
import segno
import zxingcpp
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from services.delivery.printing import fast
from services.delivery.printing.qr import (
    ALPHABET,
    MASK,
    QrTemplate,
    build_qr_template,
    draw_matrix,
    pdf_path,
    svg_path,
)

FORMS = [
    (1, 0),
    (2, 5),
    (35, MASK),
    (35, 7),
    (36, 1),
    (47, 6),
]  # length and mask; of versions 1, 2 and 3
BASE32 = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
RECTANGLE = re.compile(rb"(\d+) (\d+) (\d+) 1 re\n")
SVG_RECTANGLE = re.compile(r"M(\d+) (\d+)h(\d+)v1h-(\d+)z")

stencil = cache(build_qr_template)


def ticket(rng: random.Random) -> str:
    return "STUBLINE:" + "".join(rng.choices(BASE32, k=26))


def rows(matrix: int, side: int) -> list[list[int]]:
    bits = [int(bit) for bit in format(matrix, f"0{side * side}b")]
    assert len(bits) == side * side
    return [bits[at : at + side] for at in range(0, side * side, side)]


def segnos(code: segno.QRCode) -> list[list[int]]:
    return [list(row) for row in code.matrix]


def sides() -> st.SearchStrategy[tuple[int, int]]:
    """Matrices of any content, of codes small and large."""
    return st.sampled_from([21, 25, 29, 33, 37]).flatmap(
        lambda side: st.tuples(st.integers(0, (1 << side * side) - 1), st.just(side))
    )


def picture(matrix: int, side: int, pixels: int) -> Image.Image:
    plain = Image.frombytes(
        "L", (side, side), bytes(255 * (1 - bit) for row in rows(matrix, side) for bit in row)
    )
    return ImageOps.expand(plain, 4, 255).resize(
        (pixels * (side + 8),) * 2, Image.Resampling.NEAREST
    )


def covered(rectangles: list[tuple[int, int, int]], side: int) -> list[list[int]]:
    """How many rectangles lie on each module."""
    counts = [[0] * side for _ in range(side)]
    for x, y, width in rectangles:
        assert 0 < width <= side - x
        for column in range(x, x + width):
            counts[y][column] += 1
    return counts


def of_pdf(operators: bytes) -> list[tuple[int, int, int]]:
    assert RECTANGLE.sub(b"", operators) == b""
    return [(int(x), int(y), int(width)) for x, y, width in RECTANGLE.findall(operators)]


def of_svg(d: str) -> list[tuple[int, int, int]]:
    assert SVG_RECTANGLE.sub("", d) == ""
    rectangles = SVG_RECTANGLE.findall(d)
    assert all(there == back for _, _, there, back in rectangles)
    return [(int(x), int(y), int(width)) for x, y, width, _ in rectangles]


@pytest.mark.parametrize(("length", "mask"), FORMS)
@given(data=st.data())
def test_a_template_draws_what_segno_draws(length: int, mask: int, data: st.DataObject) -> None:
    payload = data.draw(st.text(ALPHABET, min_size=length, max_size=length))
    quick = stencil(length, mask=mask)
    code = segno.make(
        payload,
        mode="alphanumeric",
        error="m",
        version=quick.version,
        mask=mask,
        micro=False,
        boost_error=False,
    )
    assert rows(quick.matrix(payload), quick.side) == segnos(code)


@pytest.mark.parametrize("error", ["l", "q", "h"])
def test_each_error_level_has_its_templates(error: str) -> None:
    quick = build_qr_template(9, error=error)  # type: ignore[arg-type]  # one of the three above
    code = segno.make("SF-$ 1/2.", error=error, mask=MASK, micro=False, boost_error=False)
    assert rows(quick.matrix("SF-$ 1/2."), quick.side) == segnos(code)


def test_the_code_of_a_ticket_is_of_version_2() -> None:
    assert (stencil(35).version, stencil(35).side, stencil(35).error, stencil(35).mask) == (
        2,
        25,
        "m",
        MASK,
    )


def test_two_hundred_codes_are_read_at_two_and_at_three_pixels_a_module() -> None:
    rng = random.Random(35)
    for payload in (ticket(rng) for _ in range(200)):
        matrix = stencil(35).matrix(payload)
        for pixels in (2, 3):
            assert [
                barcode.text for barcode in zxingcpp.read_barcodes(picture(matrix, 25, pixels))
            ] == [payload]


@given(st.text().filter(lambda payload: len(payload) != 35))
def test_a_payload_of_another_length_is_refused_and_both_lengths_named(payload: str) -> None:
    with pytest.raises(ValueError, match=rf"for 35 characters.* has {len(payload)}$"):
        stencil(35).matrix(payload)


@pytest.mark.parametrize("length", [1, 2, 35, 36])
@given(data=st.data())
def test_a_character_outside_the_alphabet_is_refused_and_named_and_no_other(
    length: int, data: st.DataObject
) -> None:
    at = data.draw(st.integers(0, length - 1))
    wrong = data.draw(st.characters().filter(lambda character: character not in ALPHABET))
    payload = "7" * at + wrong + "7" * (length - at - 1)
    with pytest.raises(ValueError) as refused:
        stencil(length).matrix(payload)
    assert (
        str(refused.value)
        == f"character {at + 1}, {wrong!r}, is outside QR's alphanumeric alphabet"
    )


@pytest.mark.parametrize(
    ("length", "named"), [(0, "not 0"), (-1, "not -1"), (91, "version 5"), (9_999, "too large")]
)
def test_a_template_for_no_characters_or_too_many_is_refused(length: int, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        build_qr_template(length)


@pytest.mark.parametrize("length", [1, 2, 35])
def test_no_template_is_built_for_an_encoder_that_varies_more_than_the_data(
    length: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As segno does by itself: it chooses a mask for each code."""
    make = segno.make

    def choosing(content: str, error: str, version: int | None, **form: Any) -> segno.QRCode:
        return make(content, error, version, **{**form, "mask": None})

    monkeypatch.setattr(segno, "make", choosing)
    with pytest.raises(RuntimeError, match="no template"):
        build_qr_template(length)


@pytest.mark.parametrize(("length", "mask"), FORMS)
def test_a_template_survives_its_bytes(length: int, mask: int) -> None:
    quick = stencil(length, mask=mask)
    decoded = QrTemplate.from_bytes(quick.to_bytes())
    assert decoded == quick
    assert decoded.to_bytes() == quick.to_bytes()
    payload = (ALPHABET[7:] * 2)[:length]
    assert decoded.matrix(payload) == quick.matrix(payload)


@given(st.data())
def test_changed_bytes_are_refused(data: st.DataObject) -> None:
    written = bytearray(stencil(35).to_bytes())
    written[data.draw(st.integers(0, len(written) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(ValueError):
        QrTemplate.from_bytes(bytes(written))


@given(data=st.data(), more=st.binary(min_size=1, max_size=200))
def test_bytes_cut_short_and_bytes_with_more_behind_are_refused(
    data: st.DataObject, more: bytes
) -> None:
    written = stencil(2).to_bytes()
    for changed in (written[: data.draw(st.integers(0, len(written) - 1))], written + more):
        with pytest.raises(ValueError):
            QrTemplate.from_bytes(changed)


@given(st.binary(max_size=400))
def test_bytes_of_anything_else_are_refused_as_no_template(data: bytes) -> None:
    with pytest.raises(ValueError, match="not a template"):
        QrTemplate.from_bytes(data)


def sealed(body: bytes) -> bytes:
    return body + zlib.crc32(body).to_bytes(4, "big")


def test_a_refusal_of_bytes_names_what_is_wrong_with_them() -> None:
    body = stencil(2).to_bytes()[:-4]
    with pytest.raises(ValueError, match="of format 9, and this release reads format 1"):
        QrTemplate.from_bytes(sealed(body[:4] + b"\x09" + body[5:]))
    with pytest.raises(ValueError, match="for 2 characters in version 1 has not"):
        QrTemplate.from_bytes(sealed(body[:-1]))
    with pytest.raises(ValueError, match="checksum"):
        QrTemplate.from_bytes(body + b"\0\0\0\0")


@given(sides())
def test_both_paths_cover_each_dark_module_once_and_no_other(code: tuple[int, int]) -> None:
    assert covered(of_pdf(pdf_path(*code)), code[1]) == rows(*code)
    assert covered(of_svg(svg_path(*code)), code[1]) == rows(*code)


@given(sides())
def test_both_paths_have_the_same_rectangles_in_the_same_order(code: tuple[int, int]) -> None:
    assert of_pdf(pdf_path(*code)) == of_svg(svg_path(*code))


@given(sides())
def test_neighbours_in_a_row_are_one_rectangle_unless_the_eighth_module_parts_them(
    code: tuple[int, int],
) -> None:
    side = code[1]
    rectangles = of_pdf(pdf_path(*code))
    for (x, y, width), after in pairwise(rectangles):
        assert after[:2] != (x + width, y) or (y * side + x + width) % 8 == 0


def test_lines_are_cached_for_the_sides_of_templates_and_for_no_larger_ones() -> None:
    fast.rectangle_caches.cache_clear()
    for side in (25, 33, 37, 177):
        assert of_pdf(pdf_path(1, side)) == [(side - 1, side - 1, 1)]
    assert fast.rectangle_caches.cache_info().currsize == 2
    assert {len(octet) for octet in fast.rectangle_caches(25)} == {1}


@given(st.text(ALPHABET, min_size=35, max_size=35))
def test_a_payload_of_the_form_is_drawn_by_its_template(payload: str) -> None:
    assert draw_matrix(payload, stencil(35)) == (stencil(35).matrix(payload), 25)


@pytest.mark.parametrize(
    "payload",
    [
        "7",
        "stubline:" + "a" * 26,
        "STUBLINE:" + "A" * 27,
        "https://tickets.example/é/1",
        "0123456789" * 30,
    ],
)
def test_any_other_payload_is_drawn_by_segno_and_read(payload: str) -> None:
    matrix, side = draw_matrix(payload, stencil(35))
    assert draw_matrix(payload) == (matrix, side)
    code = segno.make(payload, error="m", micro=False, boost_error=False)
    assert (rows(matrix, side), side) == (segnos(code), len(code.matrix))
    assert covered(of_pdf(pdf_path(matrix, side)), side) == segnos(code)
    assert [barcode.text for barcode in zxingcpp.read_barcodes(picture(matrix, side, 3))] == [
        payload
    ]
