"""Laws of `stubline design check`: what is wrong is reported with file, line and remedy, and what a
campaign would refuse ends with 1.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

import pytest
from PIL import Image

from services.delivery import cli_design
from services.delivery.printing.design.library import Design, builtin, builtin_names
from services.delivery.printing.errors import DesignUnusable
from services.delivery.printing.plate_cache import PlateCache
from services.delivery.printing.tools import isolated, pictures, samples
from services.delivery.printing.tools.checks import DesignCheck
from services.delivery.printing.tools.comparison import DesignComparison
from services.delivery.printing.tools.target import DesignTarget, variants_of
from tests.support import rendering
from tests.support.cli_output import StublineCommand
from tests.support.design_commands import findings, made_design
from tests.support.rendering import png


@pytest.fixture
def only_usual(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without hard campaigns and hard texts, for laws that are not about these: a tenth of the
    time.
    """
    campaigns, texts = samples.campaigns, samples.texts
    monkeypatch.setattr(samples, "campaigns", lambda *of: islice(campaigns(*of), 1))
    monkeypatch.setattr(samples, "texts", lambda *of: islice(texts(*of), 1))


def test_a_sound_design_ends_with_0_and_lists_what_was_checked(
    stubline: StublineCommand, tmp_path: Path
) -> None:
    made_design(
        tmp_path / "door", page=("</body>", f"{ALL_FIELDS}</body>"), manifest=("", MORE_FIELDS)
    )
    answer = stubline("check", "door", "--json")
    assert (answer.code, answer.json["findings"]) == (0, []), answer.out + answer.err
    assert (
        answer.json["pages"] == answer.json["codes"] == 7
    )  # five kinds of texts, and two campaigns more


PLACES = {"purchaser": 140, "order": 155, "status": 170}
ALL_FIELDS = '<p style="position:absolute;top:128mm;margin:0">{{ campaign.when }}</p>' + "".join(
    f'<p class="holder" style="top:{top}mm" data-field="{name}"></p>'
    for name, top in PLACES.items()
)
MORE_FIELDS = "".join(f'[fields.{name}]\nsample = "Some {name}"\n' for name in PLACES)
# what is wrong: how, where it is reported, and a word of the remedy
FAULTS: dict[str, tuple[dict[str, Any], str, str]] = {
    "broken template": ({"page": ("<h1>{{ campaign.name }}", "<h1>{% if %}")}, "page.html:8: ", "Expected an expression"),  # noqa: E501 - a row of a table, or a program
    "unknown word": ({"page": ("<h1>{{ campaign.name }}", "<h1>{{ campaign.nme }}")}, "page.html:8: ", "nme"),  # noqa: E501 - a row of a table, or a program
    "field not in the manifest": ({"manifest": ("[fields.holder]", "[fields.email]")}, "page.html:10: ", "add [fields.holder]"),  # noqa: E501 - a row of a table, or a program
    "field that there is not": ({"manifest": ("[fields.holder]", "[fields.holer]")}, "design.toml:8: ", "holder"),  # noqa: E501 - a row of a table, or a program
    "misspelt key": ({"manifest": ("version", "versoin = 1\nversion")}, "design.toml:2: ", "versoin"),  # noqa: E501 - a row of a table, or a program
    "no TOML": ({"manifest": ("version = 1", "version = = 1")}, "design.toml", "line 2"),
    "field that grows": ({"style": (".holder { height: auto; width: auto "
    "}")}, "page.html:10: ", "give it width and height"),
    "field in a veil": ({"style": ".holder { opacity: 0.5 }"}, "page.html:10: ", "leave out opacity"),  # noqa: E501 - a row of a table, or a program
    "rule that is none": ({"page": ('data-field="holder"', ('data-field="holder" '
    'data-fit="squeeze"'))}, "page.html:10: ", "shrink"),
    "code that is not square": ({"style": ".code { width: 30mm }"}, "page.html:11: ", "equal width and height"),  # noqa: E501 - a row of a table, or a program
    "no code": ({"page": (('<div class="code" '
    'data-qr="code"></div>'), "")}, "page.html: ", 'data-qr="code"'),
    "missing font": ({"style": ("@font-face { font-family: X; src: url(x.ttf) } h1 { font-family: "
    "X }")}, "", "x.ttf"),
    "from elsewhere": ({"style": "h1 { background: url(http://example.org/x.png) }"}, "", "folder"),
    "two pages": ({"page": ("</body>", "<p>1</p><p style='break-before:page'>2</p></body>")}, "page.html: ", "one page"),  # noqa: E501 - a row of a table, or a program
}  # fmt: skip


@pytest.mark.usefixtures("only_usual")
@pytest.mark.parametrize("what", FAULTS)
def test_a_fault_is_one_line_that_names_file_line_and_remedy(
    what: str, tmp_path: Path, plates: Path
) -> None:
    change, place, remedy = FAULTS[what]
    events = list(in_process("check", made_design(tmp_path / "door", **change), tmp_path, plates))
    faults = [event["text"] for event in events if event.get("kind") == "fault"]
    assert len(faults) == 1, events
    assert faults[0].startswith(f"door/{place}" if place else "door"), faults
    assert remedy in faults[0]
    assert "\n" not in faults[0]


def in_process(
    work: str, design: Design, folder: Path, plates: Path, **more: object
) -> Iterator[dict[str, Any]]:
    """Yield what the isolated process would report, without its limits."""
    task = {
        "name": design.name,
        "folder": str(folder / design.name),
        "plate_cache": str(plates),
        "size": None,
        "language": None,
    }
    events: list[dict[str, Any]] = []
    try:
        isolated.WORK[work](task | more, events.append)
    except DesignUnusable as error:
        events.append({"kind": "fault", "text": error.cause})
    yield from events


WARNINGS: dict[str, tuple[dict[str, Any], str]] = {
    "a code too small for paper": ({"style": (".code { width: 20mm; height: 20mm "
    "}")}, "page.html:11: the code is 20.0 mm"),
    "a code too small for a screen": (
        {"manifest": ('a5 = "148mm 210mm"', 'phone = "148mm 210mm"'), "style": (".code { width: "
        "30mm; height: 30mm }")},
        "page.html:11: the code is 30.0 mm wide; on a screen a scanner needs 34 mm",
    ),
    "something at the code's edge": (
        {"page": ("</body>", '<i style="position:absolute;left:0;top:80mm;width:16mm;height:9mm;background:#888"></i></body>')},  # noqa: E501 - a row of a table, or a program
        "page.html:11: 2.5 modules of white",
    ),
    "a code at the edge of the page": ({"style": ".code { left: 2mm }"}, ("page.html:11: 1 modules "
    "of white")),
    "a sample that is cut": (
        {"manifest": ('sample = "Ada Lovelace"', f'sample = "{"Ada Lovelace " * 9}"')},
        "page.html:10: field `holder`: even its sample is truncated",
    ),
    "a letter that no font has": (
        {"manifest": ('sample = "Ada Lovelace"', 'sample = "Ἰωάννης 李"')},
        "page.html:10: field `holder`: its font lacks letters",
    ),
    "a detail that is missing": ({"page": ('data-field="number"', "data-nothing")}, "page.html: does not show the number"),  # noqa: E501 - a row of a table, or a program
    "no purchaser anywhere": ({}, "page.html: does not show the purchaser in size a5"),
    "no date": ({}, "page.html: does not show a date in size a5"),
    "no campaign": ({"page": (("<h1>{{ campaign.name "
    "}}</h1>"), "<h1>Ticket</h1>")}, "page.html: does not show the campaign's name"),
}  # fmt: skip


@pytest.mark.usefixtures("only_usual")
@pytest.mark.parametrize("what", WARNINGS)
def test_what_a_reader_will_mind_is_a_warning_and_no_fault(
    what: str, tmp_path: Path, plates: Path
) -> None:
    change, text = WARNINGS[what]
    problems = findings(made_design(tmp_path / "door", **change), plates)
    assert not [finding for finding in problems if finding.kind == "fault"]
    assert any(finding.text.startswith(f"door/{text}") for finding in problems), problems


@pytest.mark.usefixtures("only_usual")
def test_a_heavy_file_is_a_warning(tmp_path: Path, plates: Path) -> None:
    picture = png(Image.frombytes("RGB", (200, 200), Random(4).randbytes(3 * 200 * 200)))
    style = "h1 { background: url(noise.png) }"
    problems = findings(
        made_design(tmp_path / "door", style=style, files={"noise.png": picture}), plates
    )
    assert any(
        "a file of one ticket has 1" in finding.text
        for finding in problems
        if finding.kind == "warning"
    ), problems


@pytest.mark.usefixtures("only_usual")
def test_a_folder_that_no_campaign_can_name_is_reported(tmp_path: Path, plates: Path) -> None:
    problems = findings(made_design(tmp_path / "My Door"), plates)
    assert "no campaign can name it" in problems[0].text


def test_a_name_of_a_campaign_that_runs_over_the_code_is_a_fault_that_names_it(
    tmp_path: Path, plates: Path
) -> None:
    faults = [
        finding.text
        for finding in findings(rendering.make_design(tmp_path / "door"), plates)
        if finding.kind == "fault"
    ]
    assert len(faults) == 1
    assert faults[0].startswith(
        "door/page.html:11: with a campaign whose name has 200 characters a scanner does not read"
    )


def test_a_stamp_with_another_text_is_found_and_reported_once_for_each_place(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, plates: Path
) -> None:
    """Five kinds of texts differ, and two campaigns more: one line."""
    printed = DesignComparison.printed

    def other(comparison: DesignComparison, texts: Mapping[str, str], payload: str) -> bytes:
        return printed(comparison, {**texts, "holder": "Somebody Else"}, payload)

    monkeypatch.setattr(DesignComparison, "printed", other)
    faults = [
        finding.text
        for finding in findings(made_design(tmp_path / "door"), plates)
        if finding.kind == "fault"
    ]
    picture_fault, reads = faults
    assert picture_fault.startswith(
        "door/page.html:10: field `holder`: stamped with the manifest's samples it differs"
    )
    assert reads.startswith(
        "door/page.html: stamped with the manifest's samples it reads differently than "
        "WeasyPrint's page (`"
    )


def test_what_is_the_same_in_all_sizes_and_languages_is_reported_once_and_faults_come_first() -> (
    None
):
    events = [
        {"kind": kind, "text": text, "size": size, "language": language}
        for kind, text in (("warning", "w"), ("fault", "f"))
        for size in ("a4", "a5")
        for language in ("de", "en")
    ]
    assert cli_design.merge_findings(events) == [
        {"kind": kind, "text": kind[0], "sizes": ["a4", "a5"], "languages": ["de", "en"]}
        for kind in ("fault", "warning")
    ]


def test_a_fault_ends_with_1_and_leaves_stdout_to_it(
    stubline: StublineCommand, tmp_path: Path
) -> None:
    made_design(tmp_path / "door", style=".holder { opacity: 0.5 }")
    answer = stubline("check", "door")
    assert answer.code == 1
    assert answer.out.startswith("fault   door/page.html:10: field `holder`")
    assert "door: 1 fault, no warnings" in answer.out
    assert "(a5; en)" in answer.out


NESTED_LOOPS = "{% for a in range(90000) %}{% for b in range(90000) %}{% endfor %}{% endfor %}"


@pytest.mark.parametrize(
    ("bomb", "limits"),
    [
        pytest.param(NESTED_LOOPS, {"seconds_max": 4}, marks=pytest.mark.slow, id="time"),
        pytest.param('{% set a = "x" * 3000000000 %}', {}, id="memory"),
    ],
)
def test_a_design_that_eats_everything_is_a_fault_that_names_it(
    bomb: str, limits: dict[str, int], tmp_path: Path, plates: Path
) -> None:
    made_design(tmp_path / "door", page=("</body>", f"{bomb}</body>"))
    target = DesignTarget("door", tmp_path / "door")
    *_, last = isolated.run_isolated(
        "check", target, PlateCache(plates), size=None, language=None, **limits
    )
    assert last["kind"] == "fault"
    assert last["text"].startswith("door: ")
    assert "a5, en, the manifest's campaign" in last["text"]  # what it was at


@pytest.mark.slow
@pytest.mark.feature("SF-053", "SF-054")
@pytest.mark.parametrize("name", builtin_names())
def test_a_built_in_design_has_neither_faults_nor_warnings_in_any_size_and_language(
    name: str, plates: Path
) -> None:
    check = DesignCheck(PlateCache(plates), lambda _: None)
    assert list(check.run(builtin(name), variants_of(builtin(name), None, None))) == []
    assert check.pages == check.codes > 0


def test_the_comparison_sees_a_glyph_that_is_missing_and_minds_no_edge(
    tmp_path: Path, plates: Path
) -> None:
    design = made_design(tmp_path / "door")
    comparison = DesignComparison(
        variants_of(design, None, None)[0], samples.facts(design), PlateCache(plates)
    )
    code, texts = samples.payload(), samples.usual(design)
    reference = pictures.raster(comparison.reference(texts, code).pdf, 150)
    same = pictures.compare(pictures.raster(comparison.printed(texts, code), 150), reference, 150)
    other = pictures.compare(
        pictures.raster(comparison.printed(texts | {"holder": "Ada Lovelac"}, code), 150),
        reference,
        150,
    )
    assert same.pixels == 0
    assert other.pixels > 10
    assert other.box is not None
    assert other.box[1] == pytest.approx(50 * 96 / 25.4, abs=20)  # where the holder stands
