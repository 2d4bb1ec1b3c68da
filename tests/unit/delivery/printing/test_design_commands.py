"""Laws of `stubline design`: what is hostile is refused, what stands is never touched, nothing
needs a server.
"""

from __future__ import annotations

from itertools import count
from pathlib import Path

import pypdfium2
import pytest
from PIL import Image

from services.delivery import cli_design
from services.delivery.printing.design.library import DesignLibrary, builtin, builtin_names, read
from services.delivery.printing.errors import DesignNotMade, DesignUnknown
from services.delivery.printing.plate_cache import PlateCache
from services.delivery.printing.tools import pictures
from services.delivery.printing.tools.bench import DesignBench
from services.delivery.printing.tools.new_design import create
from services.delivery.printing.tools.target import find, variants_of
from services.delivery.printing.tools.watch import folder_state, watch
from tests.support.cli_output import StublineCommand
from tests.support.design_commands import made_design

# new


def test_a_new_design_is_a_copy_with_a_title_of_its_own_that_campaigns_can_name(
    stubline: StublineCommand, tmp_path: Path
) -> None:
    answer = stubline("new", "entry-pass", "--from", "raffle-entry", "--into", "designs")
    assert answer.code == 0
    ours, theirs = read(tmp_path / "designs" / "entry-pass"), builtin("raffle-entry")
    assert ours.manifest.model_copy(update={"title": theirs.manifest.title}) == theirs.manifest
    assert ours.manifest.title == "Entry pass"
    assert {**ours.contents, "design.toml": b""} == {**theirs.contents, "design.toml": b""}
    assert DesignLibrary((tmp_path / "designs",)).choose("entry-pass-a4").design == ours


def test_it_prints_the_next_steps_and_the_setting_of_senders(
    stubline: StublineCommand, tmp_path: Path
) -> None:
    output = stubline("new", "entry-pass").out
    for step in (
        "stubline design preview entry-pass --watch",
        "stubline design check entry-pass",
        'design = "entry-pass"',
    ):
        assert step in output
    assert f"STUBLINE_DELIVERY_DESIGNS_FOLDER={tmp_path}" in output


def test_it_is_made_where_senders_read_it_if_that_is_set(
    stubline: StublineCommand, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("STUBLINE_DELIVERY_DESIGNS_FOLDER", str(tmp_path / "ours"))
    assert stubline("new", "entry-pass", "--json").json["folder"] == str(
        tmp_path / "ours" / "entry-pass"
    )


HOSTILE = [
    "../x",
    "/etc/x",
    "x/y",
    "x\\y",
    "",
    ".",
    "..",
    ".x",
    "-x",
    "X",
    "x y",
    "x\n",
    "x\0",
    "ü",
    "x" * 65,
    "plain",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_that_is_none_makes_nothing_anywhere(name: str, tmp_path: Path) -> None:
    into = tmp_path / "deep" / "designs"
    into.mkdir(parents=True)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(DesignNotMade):
        create(name, "event-ticket", into, DesignLibrary())
    assert sorted(tmp_path.rglob("*")) == before


def test_a_path_for_a_name_ends_with_1_and_explains_what_a_name_is(
    stubline: StublineCommand, tmp_path: Path
) -> None:
    answer = stubline("new", "../x")
    assert answer.code == 1
    assert "lower-case letters, digits and hyphens" in answer.err
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_stands_is_never_touched(stubline: StublineCommand, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "page.html").write_text("work of weeks")
    assert stubline("new", "mine").code == 1
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["page.html"]
    assert (tmp_path / "mine" / "page.html").read_text() == "work of weeks"


@pytest.mark.parametrize("command", [["new", "x", "--from"], ["check"], ["preview"], ["bench"]])
def test_what_is_no_design_ends_with_3(stubline: StublineCommand, command: list[str]) -> None:
    answer = stubline(*command, "no-such-design")
    assert answer.code == 3
    assert "event-ticket" in answer.err  # which there are


@pytest.mark.parametrize("option", [["--size", "a3"], ["--language", "xx"]])
def test_a_size_or_language_that_a_design_lacks_ends_with_3_and_names_those_it_has(
    stubline: StublineCommand, option: list[str]
) -> None:
    answer = stubline("check", "event-ticket", *option)
    assert answer.code == 3
    assert ("phone" if option[0] == "--size" else "de") in answer.err


# list


def test_the_list_has_what_is_built_in_and_what_is_ones_own(
    stubline: StublineCommand, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    made_design(tmp_path / "ours" / "door")
    made_design(tmp_path / "ours" / "event-ticket")
    made_design(tmp_path / "ours" / "broken", manifest=("version = 1", "version = 0"))
    made_design(tmp_path / "ours" / "Not A Name")
    monkeypatch.setenv("STUBLINE_DELIVERY_DESIGNS_FOLDER", str(tmp_path / "ours"))
    rows = {row["name"]: row for row in stubline("list", "--json").json}
    assert rows.keys() == {*builtin_names(), "door", "broken", "Not A Name"}
    assert (rows["raffle-entry"]["from"], rows["raffle-entry"]["sizes"]) == (
        "built in",
        ["a5", "a4", "phone"],
    )
    assert (rows["door"]["title"], rows["door"]["from"]) == (
        "Test",
        str(tmp_path / "ours" / "door"),
    )
    assert rows["event-ticket"]["title"] == "Test"  # one's own stands before a built-in one
    assert "broken/design.toml:2" in rows["broken"]["title"]
    assert "no campaign can name it" in rows["Not A Name"]["title"]
    assert stubline("list").code == 0


# preview


def test_a_preview_has_both_ways_and_what_differs(
    stubline: StublineCommand, tmp_path: Path
) -> None:
    before = made_design(tmp_path / "door").digest
    assert stubline("preview", "door").code == 0
    out = tmp_path / "door" / "preview"
    names = {
        f"a5-en-{name}"
        for name in (
            "stamped.pdf",
            "stamped.png",
            "weasyprint.pdf",
            "weasyprint.png",
            "side-by-side.png",
        )
    }
    assert {path.name for path in out.iterdir()} == names
    for name in ("stamped", "weasyprint"):
        assert len(pypdfium2.PdfDocument(out / f"a5-en-{name}.pdf")) == 1
    with (
        Image.open(out / "a5-en-stamped.png") as one,
        Image.open(out / "a5-en-side-by-side.png") as side_by_side,
    ):
        assert side_by_side.width > 3 * one.width
    assert read(tmp_path / "door").digest == before  # pictures of it are no part of it


def test_pictures_are_never_made_part_of_the_design(
    stubline: StublineCommand, tmp_path: Path
) -> None:
    made_design(tmp_path / "door")
    assert stubline("preview", "door", "--out", "door/pictures").code == 2
    assert not (tmp_path / "door" / "pictures").exists()
    assert stubline("preview", "door", "--out", "elsewhere").code == 0
    assert (tmp_path / "elsewhere" / "a5-en-side-by-side.png").is_file()


@pytest.mark.slow
def test_a_preview_of_a_built_in_design_leaves_the_installation_alone(
    stubline: StublineCommand, tmp_path: Path
) -> None:
    assert stubline("preview", "event-ticket", "--size", "phone").code == 0
    assert (tmp_path / "event-ticket-preview" / "phone-en-stamped.png").is_file()
    assert stubline("preview", "event-ticket", "--watch").code == 2


def test_a_preview_of_what_cannot_be_printed_ends_with_1(
    stubline: StublineCommand, tmp_path: Path
) -> None:
    made_design(tmp_path / "door", page=("<h1>", "<h1>{{ nothing }}"))
    answer = stubline("preview", "door")
    assert answer.code == 1
    assert "door/page.html:8" in answer.out


def test_watching_works_each_change_once_when_nothing_moves_any_more(tmp_path: Path) -> None:
    made_design(tmp_path / "door")
    page, steps, worked = tmp_path / "door" / "page.html", count(), list[int]()

    def wait() -> None:
        step = next(steps)
        if step in {2, 3, 4}:  # an editor that writes in three steps
            page.write_text(page.read_text() + "<!-- x -->")
        if step == 8:
            (tmp_path / "door" / "preview").mkdir()
            (tmp_path / "door" / "preview" / "x.png").write_bytes(b"ours")
            (tmp_path / "door" / "page.html~").write_text("an editor's copy")
        if step == 12:
            page.unlink()
        if step == 16:
            raise KeyboardInterrupt

    numbers = iter(range(100))
    watch(tmp_path / "door", lambda: worked.append(next(numbers)), wait)
    assert len(worked) == 3  # as it was found, behind the three steps, and without its page


def test_what_is_seen_of_a_folder_is_what_the_design_is_made_of(tmp_path: Path) -> None:
    design = made_design(tmp_path / "door")
    assert {Path(path).name for path, _, _ in folder_state(tmp_path / "door")} == set(
        design.contents
    )
    assert folder_state(tmp_path / "nowhere") == frozenset()


def test_a_fault_does_not_end_watching_and_ctrl_c_does(
    stubline: StublineCommand, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    made_design(tmp_path / "door", page=("<h1>", "<h1>{{ nothing }}"))
    steps = count()

    def wait() -> None:
        step = next(steps)
        if step == 1:
            made_design(tmp_path / "door")
        if step == 5:
            raise KeyboardInterrupt

    monkeypatch.setattr(cli_design, "_wait", wait)
    answer = stubline("preview", "door", "--watch")
    assert answer.code == 0
    assert "door/page.html:8" in answer.out
    assert answer.out.index("1 fault") < answer.out.index("no faults")
    assert (tmp_path / "door" / "preview" / "a5-en-side-by-side.png").is_file()


# bench


def test_stamping_is_faster_than_weasyprint_on_the_same_pages(tmp_path: Path, plates: Path) -> None:
    design = made_design(tmp_path / "door")
    bench = DesignBench(
        variants_of(design, None, None)[0],
        PlateCache(plates),
        batch=5,
        singles=20,
        reference_singles=2,
    )
    figures = {figure.what: figure for figure in bench.figures(rounds=1)}
    alone, many = figures["stamped, one order a ticket"], figures["stamped, 5 in one document"]
    assert 20 * alone.seconds < figures["WeasyPrint, one at a time, parsed once"].seconds
    assert 5 * many.seconds < figures["WeasyPrint, 5 in one document"].seconds
    assert all(figure.bytes > 1_000 for figure in figures.values())


def test_the_pages_that_weasyprint_is_measured_with_are_the_same_pages(
    tmp_path: Path, plates: Path
) -> None:
    design = made_design(tmp_path / "door")
    bench = DesignBench(variants_of(design, None, None)[0], PlateCache(plates), batch=3)
    stamped, reference = bench._stamped_batch(0), bench._reference_batch(0)
    for page in range(3):
        assert (
            pictures.compare(
                pictures.raster(stamped, 150, page), pictures.raster(reference, 150, page), 150
            ).pixels
            == 0
        )


@pytest.mark.slow
def test_the_bench_prints_rates_sizes_and_ratios(stubline: StublineCommand, tmp_path: Path) -> None:
    made_design(tmp_path / "door")
    answer = stubline("bench", "door", "--json")
    assert answer.code == 0
    rows = answer.json["figures"]
    assert [row["times_as_fast"] for row in rows[:2]] == [1.0, 1.0]
    assert all(row["times_as_fast"] > 1 for row in rows[2:])
    assert all(row["tickets_per_second"] > 0 and row["bytes_of_the_file"] > 0 for row in rows)


def test_a_folder_comes_before_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert find("event-ticket", DesignLibrary()).folder is None
    (tmp_path / "event-ticket").mkdir()
    assert find("event-ticket", DesignLibrary()).folder is None  # it holds no design
    made_design(tmp_path / "event-ticket")
    assert find("event-ticket", DesignLibrary()).folder == tmp_path / "event-ticket"
    with pytest.raises(DesignUnknown, match="name the folder"):
        find("event-ticket/page.html", DesignLibrary())
