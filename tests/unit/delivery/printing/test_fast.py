"""The code of printing that is written for speed gives what its plain twin gives."""

from __future__ import annotations

import struct
import zlib
from functools import cache

import uharfbuzz as hb
from hypothesis import given
from hypothesis import strategies as st

from services.delivery.printing import fast
from services.delivery.printing.fast import DeflateBlocks
from services.delivery.printing.fonts import faces, packaged
from services.delivery.printing.fonts.faces import FontSubset
from services.delivery.printing.fonts.programs import CffProgram
from services.delivery.printing.plates import Placeholder, PlateObject

FONT = packaged.font("SourceSansPro-Regular.ttf")
PLACEHOLDERS: list[Placeholder] = [
    ("page", 0),
    ("page", 1),
    ("shared", 0),
    ("struct", 0),
    ("fonts", 0),
]
SINGLE_BITS = 6

values = st.lists(st.integers(0, fast.ALPHANUMERIC_VALUES - 1), min_size=1, max_size=9)
vectors = st.integers(0, (1 << 441) - 1)
matrices = st.sampled_from([21, 25, 29, 33]).flatmap(
    lambda side: st.tuples(st.integers(0, (1 << side * side) - 1), st.just(side))
)
datas = st.one_of(st.binary(max_size=300), st.builds(bytes, st.integers(0, 200_000)))


def data_bits(values: list[int]) -> list[bool]:
    """QR's alphanumeric mode: a pair is one number of eleven bits, a single last one has six."""
    bits: list[bool] = []
    for at in range(0, len(values), 2):
        number = 0
        for value in values[at : at + 2]:
            number = fast.ALPHANUMERIC_VALUES * number + value
        size = fast.PAIR_BITS if len(values) > at + 1 else SINGLE_BITS
        bits += [bool(number >> bit & 1) for bit in range(size)]
    return bits


@given(data=st.data(), values=values, base=vectors)
def test_pairs_by_tables_are_the_xor_bit_by_bit(
    data: st.DataObject, values: list[int], base: int
) -> None:
    bits = data_bits(values)
    basis = data.draw(st.lists(vectors, min_size=len(bits), max_size=len(bits)))
    plain = base
    for vector, is_set in zip(basis, bits, strict=True):
        if is_set:
            plain ^= vector
    assert fast.xor_pairs(base, fast.pair_tables(basis), values) == plain


@given(matrices)
def test_cached_rectangles_are_the_plain_ones(code: tuple[int, int]) -> None:
    assert fast.rectangles(*code) == fast.plain_rectangles(*code)


def deflated(data: bytes, level: int | None) -> DeflateBlocks:
    return fast.stored(data) if level is None else fast.compressed(data, level)


@given(st.lists(st.tuples(datas, st.sampled_from([None, 1, 3, 6, 9])), max_size=5))
def test_a_stream_in_parts_holds_what_one_compressed_at_once_holds(
    parts: list[tuple[bytes, int | None]],
) -> None:
    stream = fast.zlib_stream(*[deflated(data, level) for data, level in parts])
    plain = zlib.compress(b"".join(data for data, _ in parts))
    assert zlib.decompress(stream) == zlib.decompress(plain)


@given(
    placeholders=st.lists(st.sampled_from(PLACEHOLDERS), max_size=6),
    numbers=st.lists(
        st.integers(0, 99_999), min_size=len(PLACEHOLDERS), max_size=len(PLACEHOLDERS)
    ),
    data=st.data(),
)
def test_a_template_writes_the_object_that_the_piece_writes(
    placeholders: list[Placeholder], numbers: list[int], data: st.DataObject
) -> None:
    texts = data.draw(
        st.lists(
            st.one_of(st.binary(max_size=9), st.just(b"100 %d")),
            min_size=len(placeholders) + 1,
            max_size=len(placeholders) + 1,
        )
    )
    plate_object = PlateObject(tuple(texts), tuple(placeholders))
    template, select = fast.object_template(
        plate_object, {placeholder: at for at, placeholder in enumerate(PLACEHOLDERS)}
    )
    by_placeholder = {
        placeholder: b"%d" % number
        for placeholder, number in zip(PLACEHOLDERS, numbers, strict=True)
    }
    assert template % select(numbers) == plate_object.filled(by_placeholder)


@cache
def subset() -> FontSubset:
    return faces.compile_subset(FONT, 0, "Source Sans Pro", "", frozenset())


def outline(font: hb.Font, glyph: int) -> list[tuple[str, tuple[float, ...]]]:
    pen = hb.DrawFuncs()
    drawn: list[tuple[str, tuple[float, ...]]] = []
    pen.set_move_to_func(lambda x, y, _: drawn.append(("move", (x, y))))
    pen.set_line_to_func(lambda x, y, _: drawn.append(("line", (x, y))))
    pen.set_quadratic_to_func(lambda u, v, x, y, _: drawn.append(("curve", (u, v, x, y))))
    pen.set_close_path_func(lambda _: drawn.append(("close", ())))
    font.draw_glyph(glyph, pen)
    return drawn


@given(st.data())
def test_a_font_program_draws_what_the_subset_of_harfbuzz_draws(data: st.DataObject) -> None:
    rare = sorted(subset().glyphs.keys() - subset().common)
    shown = data.draw(st.frozensets(st.sampled_from(rare), max_size=5))
    program = subset().outlines.program(shown)
    content = zlib.decompress(program.packed)
    assert len(content) == program.length
    numbers = zlib.decompress(program.numbers)
    plain = zlib.decompress(CffProgram(subset().common, FONT).program(shown).packed)
    ours, theirs = hb.Font(hb.Face(content)), hb.Font(hb.Face(plain))
    assert any(outline(theirs, glyph) for glyph in subset().common)
    for glyph in subset().common | shown:
        (number,) = struct.unpack_from(">H", numbers, 2 * glyph)
        assert outline(ours, number) == outline(theirs, glyph)
        assert ours.get_glyph_h_advance(number) == theirs.get_glyph_h_advance(glyph)
