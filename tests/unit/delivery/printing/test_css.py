"""Whatever a designer writes, no page differs in silence: a design is refused, or both ways print
it alike.
"""

from __future__ import annotations

import io
from functools import cache
from importlib.metadata import distribution
from pathlib import Path

import pytest
from PIL import Image

from services.delivery.printing.compile.layout import measure_lines
from services.delivery.printing.errors import DesignUnusable
from tests.support import pdfs
from tests.support.corpus import LATIN, ODD
from tests.support.rendering import (
    ADA,
    CompiledDesign,
    about,
    compile_design,
    difference,
    make_design,
    payload,
    picture,
    png,
    scanned,
    text_of,
)

TOLERANCE, SNAPPED = (
    2,
    60,
)  # levels of 255; pixels of a page at 144 dpi (test_both_ways.py says why)
TEXTS = (
    {**ADA, "number": "fi 0123 AV", "holder": "Affinity office fjord Łódź 01"},
    {**ADA, "holder": LATIN["many words"]},
)

FIELD = {
    "nothing": "",
    "right": "text-align: right",
    "centre": "text-align: center",
    "end": "text-align: end",
    "justified": "text-align: justify",
    "last line to the right": "text-align: justify; text-align-last: right",
    "spaced by a pixel": "letter-spacing: 1px",
    "spaced by three pixels": "letter-spacing: 3px; text-align: center",
    "spaced by a part, right": "letter-spacing: 0.05em; text-align: right",
    "drawn together": "letter-spacing: -0.3px",
    "drawn together by a pixel": "letter-spacing: -1px; text-align: right",
    "capitals": "text-transform: uppercase",
    "lower case": "text-transform: lowercase",
    "small capitals": "font-variant: small-caps",
    "line height as number": "line-height: 1.7",
    "line height as length": "line-height: 21px",
    "line height as part": "line-height: 150%",
    "line height normal": "line-height: normal",
    "indented": "text-indent: 5mm",
    "padded": "padding: 2mm 3mm; border: 1px solid red",
    "border box": "box-sizing: border-box; padding: 2mm; border: 1px solid",
    "tabular digits": 'font-feature-settings: "tnum" 1',
    "other zeros": 'font-feature-settings: "zero" 1, "onum" 1',
    "no ligatures by feature": 'font-feature-settings: "liga" 0',
    "no ligatures by variant": "font-variant-ligatures: none",
    "no kerning by feature": 'font-feature-settings: "kern" 0',
    "no kerning": "font-kerning: none",
    "superscript": "font-variant-position: super",
    "bold that the font has not": "font-weight: bold",
    "italic that the font has not": "font-style: italic",
    "turned": "transform: rotate(20deg)",
    "scaled": "transform: scale(0.7)",
    "from the right": "direction: rtl",
    "half transparent colour": "color: rgb(255 0 0 / 50%)",
    "clipped": "overflow: hidden",
    "hidden": "visibility: hidden",
    "transparent": "opacity: 0.5",
    "in the flow": "position: static",
    "flexible": "display: flex",
    "a cell": "display: table-cell",
    "in columns": "columns: 2",
    "breaking anywhere": "white-space: normal; word-break: break-all",
    "keeping blanks": "white-space: pre",
    "hyphenated": "white-space: normal; hyphens: auto",
    "underlined": "text-decoration: underline",
    "on a gradient": "background: linear-gradient(red, blue)",
    "of no size": "font-size: 0",
    "three sizes too large": "font-size: 90px; overflow: hidden",
    "wider with its text": "width: auto; min-width: 30mm; position: static; float: left",
}
RULES = {
    "text before": '.holder::before { content: "x " }',
    "text behind": '.holder::after { content: " x" }',
    "another first letter": ".holder::first-letter { color: red; font-size: 2em }",
    "another first line": ".holder::first-line { color: red }",
    "OpenType with PostScript outlines": (
        "@font-face { font-family: O; src: url(o.otf) } .holder { font-family: O }"
    ),
    "a font with a wild name": '@font-face { font-family: "A (B) /C#1 <x>"; src: url(o.ttf) }'
    ' .holder { font-family: "A (B) /C#1 <x>" }',
    "the code turned": ".code { transform: rotate(10deg) }",
    "the code transparent": ".code { opacity: 0.5 }",
    "the code hidden": ".code { visibility: hidden }",
    "the code not displayed": ".code { display: none }",
    "a page's margin box": "@page { @top-left { content: 'head' } }",
    "crop marks": "@page { marks: crop; bleed: 3mm }",
    "a page's background": "html { background: #eef url(logo.png) no-repeat }",
    "colours for printers": "h1 { color: device-cmyk(0 1 1 0); background: lab(50% 40 59.5) }",
}
BESIDE = {
    "PNG": '<img class="x" src="logo.png" alt="l">',
    "JPEG": '<img class="x" src="photo.jpg" alt="l">',
    "SVG": '<img class="x" src="logo.svg" alt="l">',
    "SVG in the page": (
        '<svg class="x" viewBox="0 0 25 25"><path d="M0 0h25v25h-25z" fill="#ff0"/></svg>'
    ),
    "text in SVG": '<svg class="x" viewBox="0 0 25 25"><text x="1" y="9">hi</text></svg>',
    "gradients": (
        '<div class="x" style="background: linear-gradient(red, rgb(0 0 255 / 30%)); '
        'border-radius: 4mm">x</div>'
    ),
    "a transparent group": '<div class="x" style="opacity: 0.4">faint <b>bold</b></div>',
    "tiles": '<div class="x" style="background: url(logo.png) repeat">tile</div>',
    "tiles of SVG": (
        '<div class="x" style="background: url(logo.svg) repeat; background-size: 5mm">tile</div>'
    ),
    "a round cut": (
        '<div class="x" style="overflow: hidden; border-radius: 50%"><img '
        'src="photo.jpg" alt=""></div>'
    ),
    "two links": (
        '<a class="x" href="https://example.org/t?a=(b)">site</a><a class="x y" '
        'href="mailto:a@example.org">mail</a>'
    ),
    "a jump": '<a class="x" href="#there">jump</a><p id="there" class="x y">there</p>',
    "a table": '<table class="x"><tr><th>a</th><td style="border: 1px solid">b</td></tr></table>',
    "a numbered list": '<ol class="x"><li>a</li><li>b</li></ol>',
    "turned text": '<div class="x" style="transform: rotate(30deg)">turn</div>',
    "letters of other fonts": '<p class="x">Привет 王</p>',
    "a second code": '<div class="x" data-qr="code"></div>',
    "a form": '<input class="x" value="v" name="n" style="appearance: auto">',
}
FRONT = {
    "a square drawn before the code": (
        '<svg class="x" viewBox="0 0 25 25"><path d="M0 0h25v25h-25z" fill="#ff0"/></svg>'
    ),
    "two fields in one place": '<div class="number" data-field="number">R-000123</div>',
}
BOXES = (
    ".x { position: absolute; left: 110mm; top: 20mm; width: 20mm; height: 20mm } .y { top: 50mm }"
)


@cache
def pictures() -> dict[str, bytes]:
    image = Image.new("RGBA", (60, 40), (255, 0, 0, 90))
    image.paste((0, 0, 255, 255), (10, 10, 30, 20))
    packed = io.BytesIO()
    image.convert("RGB").save(packed, "JPEG")
    svg = (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 25 25"><path d="M0 0h25v25h-25z" '
        'fill="green"/></svg>'
    )
    return {"logo.png": png(image), "photo.jpg": packed.getvalue(), "logo.svg": svg.encode()}


@cache
def fonts() -> dict[str, bytes]:
    paths = {
        path.name: Path(str(path.locate()))
        for path in distribution("font-source-sans-pro").files or []
    }
    return {
        "o.otf": paths["SourceSansPro-Regular.otf"].read_bytes(),
        "o.ttf": paths["SourceSansPro-Light.ttf"].read_bytes(),
    }


def held(folder: Path, style: str, page: tuple[str, str] = ("", "")) -> CompiledDesign | None:
    """None for a design that is refused, which says where, and what to do."""
    try:
        return compile_design(
            make_design(
                folder / "made", style=style + BOXES, page=page, files={**pictures(), **fonts()}
            )
        )
    except DesignUnusable as refused:
        cause = refused.cause
    assert cause.startswith("made")
    assert len(cause) > 30
    return None


def assert_alike(at_work: CompiledDesign, texts: dict[str, str], name: str) -> None:
    ours, weasyprints = at_work.ours(texts), at_work.weasyprints(texts)
    largest, beyond = difference(picture(ours, 144), picture(weasyprints, 144), TOLERANCE)
    assert beyond <= SNAPPED, (
        f"{name}: {beyond} pixels differ, by {largest} of 255, and nothing was reported"
    )
    assert "".join(text_of(ours).split()) == "".join(text_of(weasyprints).split())


@pytest.mark.parametrize("name", FIELD)
def test_a_fields_style_is_refused_or_stamped_as_weasyprint_sets_it(
    name: str, tmp_path: Path
) -> None:
    if at_work := held(tmp_path, f".holder {{ {FIELD[name]} }}"):
        for texts in TEXTS:
            assert_alike(at_work, texts, name)


@pytest.mark.parametrize("name", [*RULES, *BESIDE, *FRONT])
def test_a_pages_decoration_is_refused_or_kept_as_weasyprint_draws_it(
    name: str, tmp_path: Path
) -> None:
    """Its file is sound, its code is read, and the next page has it too."""
    page = ("", "")
    if name in BESIDE:
        page = ("</body>", BESIDE[name] + "\n</body>")
    elif name in FRONT:
        page = ('<div class="number"', FRONT[name] + '\n<div class="number"')
    if (at_work := held(tmp_path, RULES.get(name, ""), page)) is None:
        return
    for texts in (TEXTS[0], {**ADA, "holder": ODD["Thai"]}):
        assert_alike(at_work, texts, name)
    pdf = at_work.writer.write(
        [at_work.stamp.page({**ADA, "number": str(at)}, payload(at)) for at in range(3)], about()
    )
    with pdfs.opened(pdf) as document:
        assert document.check_pdf_syntax() == document.get_warnings() == []
        annotations = [
            annotation for page in document.pages for annotation in page.get("/Annots", [])
        ]
        numbers = {
            int(number) for number in list(document.Root.StructTreeRoot.ParentTree.Nums)[::2]
        }
        assert {int(annotation.StructParent) for annotation in annotations} <= numbers
        assert len({int(annotation.StructParent) for annotation in annotations}) == len(annotations)
    assert [scanned(picture(pdf, 150, at)) for at in range(3)] == [[payload(at)] for at in range(3)]


@pytest.mark.parametrize("name", [name for name, style in FIELD.items() if "feature" in style])
def test_two_fields_of_one_font_have_each_its_own_features(name: str, tmp_path: Path) -> None:
    """The same text in both, the plain one first: what is remembered of it is not the other's."""
    at_work = held(tmp_path, f".holder {{ {FIELD[name]} }}")
    assert at_work is not None
    assert_alike(at_work, {**ADA, "number": "Affinity AV 0101", "holder": "Affinity AV 0101"}, name)


@pytest.mark.parametrize(
    ("language", "text"),
    [("tr", "fiil fi İzmir"), ("ro", "Ştefan Ţepeş"), ("ca", "paral·lel"), ("pl", "kój")],
)
def test_glyphs_have_the_shapes_of_the_pages_language(
    language: str, text: str, tmp_path: Path
) -> None:
    design = make_design(tmp_path / "made", manifest=('["en"]', f'["{language}"]'))
    at_work = compile_design(design)
    texts = {**ADA, "holder": text}
    shown = [pdfs.lines_of(pdf) for pdf in (at_work.ours(texts), at_work.weasyprints(texts))]
    assert [glyphs for *_, glyphs in shown[0]] == [glyphs for *_, glyphs in shown[1]]


@pytest.mark.parametrize(
    "attributes",
    [
        'data-fit="wrap"',
        'data-fit="wrap" data-lines="2" data-valign="bottom"',
        'data-fit="shrink" data-lines="3" data-shrink="30" data-valign="middle"',
    ],
)  # fmt: skip - two are no three lines
@pytest.mark.parametrize("height", ["1.2", "18px"])
def test_each_rule_of_fitting_is_stamped_as_weasyprint_sets_it(
    attributes: str, height: str, tmp_path: Path
) -> None:
    style = (
        f".holder {{ height: 23mm; line-height: {height}; text-align: right; letter-spacing: "
        "0.2px }"
    )
    at_work = held(tmp_path, style, ('data-field="holder"', f'data-field="holder" {attributes}'))
    assert at_work is not None
    for text in ("many words", "no space", "double names", "short", "empty"):
        assert_alike(at_work, {**ADA, "holder": LATIN[text]}, text)
    for text in ("Japanese", "Arabic, long"):
        texts = {**ADA, "holder": ODD[text]}
        beyond = difference(
            picture(at_work.ours(texts), 144), picture(at_work.weasyprints(texts), 144), TOLERANCE
        )[1]
        assert beyond <= SNAPPED, text
        laid_out = at_work.template.lay_out(
            {**at_work.split(texts)[0], **at_work.unstampable(texts)}, None
        )
        spec = at_work.template.fields["holder"]
        assert measure_lines(laid_out, spec.element)[0] <= (spec.rule.lines or 9), text
