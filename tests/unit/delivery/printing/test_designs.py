"""A bad design is refused when it is checked: the message names design, file and line, and what to
do. Never at a ticket.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from PIL import Image

from services.delivery.printing.errors import DesignUnusable
from tests.support.rendering import compile_design, make_design

HOLDER = '<div class="holder" data-field="holder">Ada Lovelace</div>'
CODE = '<div class="code" data-qr="code"></div>'
H1 = "<h1>{{ campaign.name }}</h1>"
Change = tuple[str, str]  # what stood there, what stands there


@dataclass(frozen=True)
class Bad:
    """`words`: what the message has to contain, after the name of the design."""

    words: tuple[str, ...]
    page: Change = ("", "")
    manifest: Change = ("", "")
    style: str = ""
    files: Mapping[str, bytes] = field(default_factory=dict)


def on_page(old: str, new: str, *words: str) -> Bad:
    return Bad(words, page=(old, new))


def in_manifest(old: str, new: str, *words: str) -> Bad:
    return Bad(words, manifest=(old, new))


def styled(style: str, *words: str) -> Bad:
    return Bad(words, style=style)


def bomb(width: int, height: int) -> bytes:
    """The head of a picture, and none of its pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(b""))
        + chunk(b"IEND", b"")
    )


def png() -> bytes:
    packed = io.BytesIO()
    Image.new("RGB", (2, 2)).save(packed, "PNG")
    return packed.getvalue()


def variable_font() -> bytes:
    """Letters as squares, in any weight."""
    characters = [chr(code) for code in range(0x20, 0x7F)]
    names = [".notdef", *(f"u{ord(character):04x}" for character in characters)]
    pen = TTGlyphPen(None)
    pen.moveTo((0, 0))
    for corner in ((0, 500), (500, 500), (500, 0)):
        pen.lineTo(corner)
    pen.closePath()
    font = FontBuilder(1000, isTTF=True)
    font.setupGlyphOrder(names)
    font.setupCharacterMap(
        {ord(character): name for character, name in zip(characters, names[1:], strict=True)}
    )
    font.setupGlyf(dict.fromkeys(names, pen.glyph()))
    font.setupHorizontalMetrics(dict.fromkeys(names, (600, 0)))
    font.setupHorizontalHeader(ascent=800, descent=-200)
    font.setupNameTable({"familyName": "Variable", "styleName": "Regular"})
    font.setupOS2(sTypoAscender=800, sTypoDescender=-200, usWinAscent=800, usWinDescent=200)
    font.setupPost()
    font.setupFvar([("wght", 100, 400, 900, "Weight")], [])
    packed = io.BytesIO()
    font.font.save(packed)
    return packed.getvalue()


TEMPLATES = {
    "broken Jinja": on_page(H1, "<h1>{{ campaign.name }</h1>", "page.html:8", "unexpected"),
    "a tag that is not closed": on_page(H1, "{% if 1 %}", "page.html", "endif"),
    "an unknown tag": on_page(H1, "{% nope %}", "page.html:8", "nope"),
    "an unknown filter": on_page(H1, "{{ 1 | nope }}", "page.html:8", "nope"),
    "a word that nobody knows": on_page(
        H1, "\n\n{{ nope }}", "page.html:10", "nope", "campaign.id, .name"
    ),
    "an attribute that nobody knows": on_page(H1, "{{ campaign.price }}", "page.html:8", "price"),
    "a text that the manifest lacks": on_page(H1, "{{ text.holder }}", "page.html:8", "holder"),
    "a class": on_page(H1, "{{ ''.__class__.__mro__ }}", "page.html:8", "__class__"),
    "a subclass": on_page(H1, "{{ ''['__cla' ~ 'ss__'] }}", "page.html:8"),
    "a way out by format": on_page(
        H1, "{{ '{0.__class__}'.format(1) }}", "page.html:8", "__class__"
    ),
    "globals of a function": on_page(H1, "{{ range.__globals__ }}", "page.html:8"),
    "globals of a macro": on_page(
        H1, "{% macro m() %}{% endmacro %}{{ m.__init__.__globals__ }}", "page.html:8"
    ),
    "the template itself": on_page(H1, "{{ self.__init__ }}", "page.html:8"),
    "cycler": on_page(H1, "{{ cycler.__init__ }}", "page.html:8"),
    "lipsum": on_page(H1, "{{ lipsum(100000) }}", "page.html:8", "lipsum"),
    "an include from elsewhere": on_page(
        H1, "{% include '/etc/passwd' %}", "page.html", "/etc/passwd"
    ),
    "an include from above": on_page(H1, "{% include '../x.html' %}", "page.html", "../x.html"),
    "a fault in what is included": Bad(
        ("part.html:3", "nope"),
        page=(H1, "{% include 'part.html' %}"),
        files={"part.html": b"<p>\n</p>\n{{ nope }}"},
    ),
    "a field in what is included": Bad(
        ("part.html:2", "holder", "squeeze"),
        page=(HOLDER, "{% include 'part.html' %}"),
        files={"part.html": b"<p>\n</p><p data-field='holder' data-fit='squeeze'>x</p>"},
    ),
    "chance": on_page(H1, "{{ [1, 2] | random }}", "page.html:8", "random"),
    "a function, not its answer": on_page(H1, "{{ text.items }}", "page.html:8", "call it"),
    "a generator, not its items": on_page(
        H1, "{{ ['a'] | map('upper') }}", "page.html:8", "generator"
    ),
    "division by nothing": on_page(H1, "{{ 1 / 0 }}", "page.html:8", "zero"),
    "a format that lacks a value": on_page(H1, "{{ '{a}'.format() }}", "page.html:8"),
    "a place that a list lacks": on_page(H1, "{{ '{3}'.format(1) }}", "page.html:8"),
    "a macro that calls itself": on_page(
        H1, "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "page.html"
    ),
    "a page that includes itself": on_page(H1, "{% include 'page.html' %}", "page.html"),
    "a loop that is long": on_page(H1, "{% for i in range(100001) %}{% endfor %}", "page.html:8"),
    "a hundred megabytes": on_page(H1, "{{ 'x' * 100000000 }}", "page.html", "characters of HTML"),
}
MANIFESTS = {
    "broken TOML": in_manifest('title = "Test"', "title = ", "design.toml", "line 1"),
    "an unknown key": in_manifest(
        "version = 1", "version = 1\nauthor = 'me'", "design.toml:3", "author", "take it out"
    ),
    "no human title": in_manifest('title = "Test"\n', "", "design.toml", "title", "add it"),
    "a version of nothing": in_manifest("version = 1", "version = 0", "design.toml:2", "version"),
    "no language": in_manifest('["en"]', "[]", "design.toml:3", "languages"),
    "a language that is none": in_manifest('["en"]', '["English!"]', "design.toml:3", "languages"),
    "a size that is none": in_manifest('"148mm 210mm"', '"A5"', "design.toml:5", "a5"),
    "a size of nothing": in_manifest(
        '"148mm 210mm"', '"0mm 0mm"', "design.toml:5", "a5", "20 to 2,000 mm"
    ),
    "a size of a street": in_manifest(
        '"148mm 210mm"', '"148mm 99999mm"', "design.toml:5", "a5", "148mm 210mm"
    ),
    "a size that is no number": in_manifest(
        '"148mm 210mm"', '"1.4.8mm 210mm"', "design.toml:5", "a5", "148mm 210mm"
    ),
    "a size with a space in its name": in_manifest("a5 =", '"a 5" =', "design.toml"),
    "tables in tables in tables": in_manifest(
        'title = "Test"', "title = " + "[" * 5_000, "design.toml", "deeply"
    ),
    "an unknown field": in_manifest(
        "[fields.number]", "[fields.seat]\nsample=''\n[fields.number]", "design.toml:6", "seat"
    ),
    "a field without a sample": in_manifest('sample = "R-000123"', "", "design.toml", "sample"),
    "words of one language only": in_manifest(
        '["en"]',
        '["en", "de"]\n[text.en]\nkind = "Ticket"\n[text.de]',
        "design.toml",
        "text.de",
        "kind",
    ),
    "an unknown word in a field": in_manifest(
        'sample = "R-000123"', 'sample = "1"\ncolour = "red"', "design.toml", "colour"
    ),
}  # fmt: skip - a case a line
FIELDS = {
    "a field that the manifest lacks": on_page(
        HOLDER, HOLDER + '<p data-field="email">x</p>', "page.html:10", "email", "[fields.email]"
    ),
    "a field that nobody knows": on_page(
        HOLDER, HOLDER + '<p data-field="seat">x</p>', "page.html:10", "seat", "holder"
    ),
    "a field with elements in it": on_page(
        HOLDER, HOLDER.replace("Ada", "<b>Ada</b>"), "page.html:10", "holder", "other elements"
    ),
    "a rule that is none": on_page(
        'data-field="holder"',
        'data-field="holder" data-fit="squeeze"',
        "page.html:10",
        "squeeze",
        "wrap",
    ),
    "lines that are no number": on_page(
        'data-field="holder"', 'data-field="holder" data-lines="two"', "page.html:10", "two"
    ),
    "a height that is none": on_page(
        'data-field="holder"',
        'data-field="holder" data-valign="up"',
        "page.html:10",
        "up",
        "middle",
    ),
    "shrinking to more than all": on_page(
        'data-field="holder"',
        'data-field="holder" data-fit="shrink" data-shrink="200"',
        "page.html:10",
        "200",
    ),
    "a field that grows": styled(
        ".holder { height: auto }", "page.html:10", "holder", "grows", "height"
    ),
    "a field as wide as its text": styled(
        ".holder { width: auto; max-width: none }", "page.html:10", "holder", "width"
    ),
    "a field that moves its neighbours": styled(
        ".holder { display: flex }", "page.html:10", "holder", "display: block"
    ),
    "a field that is no block": styled(
        ".holder { position: static; display: inline }", "page.html:10", "holder", "display: block"
    ),
    "a field without height": styled(".holder { height: 0 }", "page.html:10", "holder", "height"),
    "an underlined field": styled(
        ".holder { text-decoration: underline }",
        "page.html:10",
        "holder",
        "text-decoration",
        "leave it out",
    ),
    "an underlined parent": Bad(
        ("page.html:10", "holder", "text-decoration"), page=(HOLDER, f"<u>{HOLDER}</u>")
    ),
    "a field that is half there": styled(
        ".holder { opacity: 0.5 }", "page.html:10", "holder", "opacity"
    ),
    "a field in what is half there": Bad(
        ("page.html:10", "holder", "opacity"),
        page=(HOLDER, f"<div style='opacity: 0.9'>{HOLDER}</div>"),
    ),
    "a field that is not shown": styled(
        ".holder { display: none }", "page.html:10", "holder", "not shown at all"
    ),
    "a field in a cell": on_page(
        HOLDER,
        '<table><tr><td data-field="holder">x</td></tr></table>',
        "page.html:10",
        "holder",
        "display: block",
    ),
    "a field without quotes": on_page(
        'data-field="holder"', "data-field=holdr", "page.html:10", "holdr", "holder"
    ),
    "lines without height": styled(
        ".holder { line-height: 0 }", "page.html:10", "holder", "line-height 0.0 px"
    ),
    "letters without size": styled(
        ".holder { font-size: 0 }", "page.html:10", "holder", "not shown at all"
    ),
    "a field that is an item": styled(
        ".holder { display: list-item; list-style: disc inside }",
        "page.html:10",
        "holder",
        "::marker",
    ),
    "a justified field": styled(
        ".holder { text-align: justify }", "page.html:10", "holder", "justify"
    ),
    "a code in a cell": on_page(
        CODE, '<table><tr><td data-qr="code"></td></tr></table>', "page.html:11", "display: block"
    ),
    "no code": on_page(CODE, "", "page.html", "no code", "data-qr"),
    "a code of another kind": on_page(
        'data-qr="code"', 'data-qr="url"', "page.html:11", "url", "code"
    ),
    "a code that is no square": styled(".code { height: 30mm }", "page.html:11", "code", "equal"),
    "a code without size": styled(".code { width: 0; height: 0 }", "page.html:11", "code", "width"),
    "two codes": on_page(
        CODE, CODE + CODE.replace('class="code"', 'class="number"'), "page.html", "code"
    ),
}  # fmt: skip - as above
PAGES = {
    "no title": on_page("<title>{{ campaign.name }}</title>", "", "page.html", "<title>"),
    "an empty title": on_page("{{ campaign.name }}</title>", " </title>", "page.html", "<title>"),
    "elements in elements in elements": on_page(H1, "<div>" * 3_000, "page.html", "deeply"),
    "another size in a style": styled(
        "@page { size: A3 !important }", "page.html", "297mm 420mm", "148mm 210mm"
    ),
    "a file that it carries": on_page(
        "<title>", '<link rel="attachment" href="style.css"><title>', "page.html", "attaches"
    ),
    "a picture without a word": Bad(
        ("page.html:8", "logo.png", 'alt="..."'),
        page=(H1, '<img src="logo.png">'),
        files={"logo.png": png()},
    ),
    "a broken rule in the page": on_page(
        "</head>", "<style>h1 { colour: red }</style></head>", "page.html, <style>", "colour"
    ),
    "a broken rule in what a style imports": Bad(
        ("own.css or what it imports", "colour"),
        page=("style.css", "own.css"),
        files={"own.css": b"@import url(more.css);", "more.css": b"h1 { colour: red }"},
    ),
    "a page of two sheets": on_page(
        H1, "<p>much</p>" * 60, "page.html", "pages of 148mm 210mm", "one ticket is one page"
    ),
    "a break": on_page(
        CODE, CODE + "<p>one</p><p style='break-before: page'>two</p>", "page.html", "2 pages"
    ),
    "an unknown property": styled(".holder { colour: red }", "colour", "unknown property"),
    "a value that is none": styled(".holder { color: reddish }", "reddish"),
    "a broken rule": styled("} } @nope {", "made"),
    "a missing style": on_page('href="style.css"', 'href="other.css"', "page.html", "other.css"),
    "a missing picture": on_page(
        H1, '<img src="logo.png">', "page.html", "logo.png", "does not hold"
    ),
    "a missing background": styled(
        "h1 { background: url(paper.png) }", "paper.png", "does not hold"
    ),
    "a missing font file": styled(
        "@font-face { font-family: F; src: url(f.ttf) } .holder { font-family: F }", "f.ttf"
    ),
    "a font that is none": Bad(
        ("style.css", "'F'", "cannot be loaded", "f.ttf", "TTF"),
        style="@font-face { font-family: F; src: url(f.ttf) } .holder { font-family: F }",
        files={"f.ttf": b"no font"},
    ),
    "an unknown font of ours": styled(
        '@font-face { font-family: F; src: url("fonts:Nope.ttf") }', "Nope.ttf", "SourceSansPro"
    ),
    "a font that nobody has": styled(".holder { font-family: Nowhere }", "Nowhere"),
    "a font that nobody has, and another": styled(
        "h1 { font-family: Nowhere, sans-serif }", "Nowhere"
    ),
    "any font": styled(
        "h1 { font-family: sans-serif }", "sans-serif", "another font on each machine", "@font-face"
    ),
    "any font as it comes": styled(
        "html { font-family: initial }", "serif", "another font on each machine"
    ),
    "a variable font": Bad(
        ("page.html:10", "holder", "variable", "static"),
        style="@font-face { font-family: V; src: url(v.ttf) } .holder { font-family: V }",
        files={"v.ttf": variable_font()},
    ),
    "a picture from the network": on_page(
        H1, '<img src="https://example.org/x.png">', "page.html", "example.org", "folder"
    ),
    "a style from the network": styled("@import url(https://example.org/x.css);", "made"),
    "a font from the network": styled(
        "@font-face { font-family: F; src: url(https://example.org/f.ttf) } h1 { font-family: F }",
        "example.org",
    ),
    "a file of the machine": on_page(
        H1, '<img src="file:///etc/passwd">', "page.html", "passwd", "folder"
    ),
    "a file above": on_page(H1, '<img src="../x.png">', "page.html", "x.png"),
    "a file above, in disguise": on_page(H1, '<img src="%2e%2e/x.png">', "page.html", "x.png"),
    "a file in the address": on_page(
        H1, '<img src="data:image/png;base64,iVBORw0KGgo=">', "page.html", "data:", "folder"
    ),
    "a picture within a picture": Bad(
        ("page.html", "passwd"),
        page=(H1, '<img src="a.svg">'),
        files={
            "a.svg": (
                b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><image '
                b'href="file:///etc/passwd" width="9" height="9"/></svg>'
            )
        },
    ),
    "a picture of 100 megapixels": Bad(
        ("page.html", "big.png", "10000 x 10000", "300 dpi"),
        page=(H1, '<img src="big.png">'),
        files={"big.png": bomb(10_000, 10_000)},
    ),
    "100 megapixels in disguise": Bad(
        ("big.svg", "10000 x 10000"),
        style="h1 { background: url(big.svg) }",
        files={"big.svg": bomb(10_000, 10_000)},
    ),
    "100 megapixels without a name": Bad(
        ("page.html", "big", "10000 x 10000"),
        page=(H1, '<img src="big.bin">'),
        files={"big.bin": bomb(10_000, 10_000)},
    ),
    "a picture of a terapixel": Bad(
        ("page.html", "big.png"),
        page=(H1, '<img src="big.png">'),
        files={"big.png": bomb(1_000_000, 1_000_000)},
    ),
    "a picture that is none": Bad(
        ("page.html", "x.png", "truncated, or of an unknown kind", "save it as PNG or JPEG"),
        page=(H1, '<img src="x.png">'),
        files={"x.png": b"GIF89a?"},
    ),
    "a picture that is cut off": Bad(
        ("page.html", "x.png", "save it as PNG or JPEG"),
        page=(H1, '<img src="x.png" alt="x">'),
        files={"x.png": png()[:20]},
    ),
    "a drawing that is cut off": Bad(
        ("page.html:8", "`x.svg` cannot be drawn", "in a browser"),
        page=(H1, '<img src="x.svg" alt="x">'),
        files={"x.svg": b"<svg xmlns='http://www.w3.org/2000/svg'><path d="},
    ),
    "a large SVG": Bad(
        ("page.html", "x.svg", "1,000,000"),
        page=(H1, '<img src="x.svg">'),
        files={"x.svg": b"<svg>" + b" " * 1_000_000},
    ),
    "a style that is no text": Bad(
        ("x.css", "UTF-8"), page=("style.css", "x.css"), files={"x.css": b"h1 { content: '\xff' }"}
    ),
    "frames": on_page(
        H1,
        '<iframe src="https://example.org"></iframe><object data="file:///etc/passwd"></object>',
        "page.html",
    ),
}  # fmt: skip - as above


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("name", [*TEMPLATES, *MANIFESTS, *FIELDS, *PAGES])
def test_a_bad_design_is_refused_with_its_place_and_a_remedy(name: str, tmp_path: Path) -> None:
    bad = {**TEMPLATES, **MANIFESTS, **FIELDS, **PAGES}[name]
    with pytest.raises(DesignUnusable) as refused:
        compile_design(
            make_design(
                tmp_path / "made",
                page=bad.page,
                manifest=bad.manifest,
                style=bad.style,
                files=bad.files,
            )
        )
    cause = refused.value.cause
    assert cause.startswith("made")
    assert [word for word in bad.words if word not in cause] == [], cause
    assert len(cause) < 1_000
    assert "Traceback" not in cause
