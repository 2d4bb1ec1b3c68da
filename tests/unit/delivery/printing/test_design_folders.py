"""The folder of a design and the library of designs: what is read, what is refused, and which
design a name means.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import replace
from pathlib import Path

import pytest

from services.delivery.printing.design.library import DesignLibrary, read
from services.delivery.printing.design.page import rendered_html
from services.delivery.printing.errors import DesignUnknown, DesignUnusable
from tests.support.rendering import SPRING, VARIANTS, compile_design, make_design, template_of

H1 = "<h1>{{ campaign.name }}</h1>"


def test_a_design_that_holds_is_not_refused(tmp_path: Path) -> None:
    assert compile_design(make_design(tmp_path / "made")).plate.title == "Spring Draw"


@pytest.mark.parametrize("name", ["page.html", "design.toml"])
def test_a_file_that_is_missing_is_named(name: str, tmp_path: Path) -> None:
    make_design(tmp_path / "made")
    (tmp_path / "made" / name).unlink()
    with pytest.raises(DesignUnusable, match=name):
        compile_design(read(tmp_path / "made"))


def test_a_link_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    make_design(tmp_path / "made")
    (tmp_path / "secret.png").write_bytes(b"s")
    for target in (tmp_path / "secret.png", Path("/etc/hostname")):
        link = tmp_path / "made" / "logo.png"
        link.unlink(missing_ok=True)
        link.symlink_to(target)
        with pytest.raises(
            DesignUnusable, match=r"made/logo.png: a link out of the design's folder; copy"
        ):
            read(tmp_path / "made")


def test_a_folder_that_is_linked_out_of_the_folder_is_refused_or_left_out(tmp_path: Path) -> None:
    make_design(tmp_path / "made")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "key.pem").write_bytes(b"secret")
    (tmp_path / "made" / "fonts").symlink_to(tmp_path / "elsewhere")
    paths: list[str] = []
    with contextlib.suppress(DesignUnusable):
        paths = [*read(tmp_path / "made").contents]
    assert not [path for path in paths if "key" in path]


def test_too_much_is_refused_and_named(tmp_path: Path) -> None:
    make_design(tmp_path / "made")
    (tmp_path / "made" / "film.png").write_bytes(bytes(8_000_001))
    with pytest.raises(DesignUnusable, match=r"made/film.png: more than 8 MB"):
        read(tmp_path / "made")
    (tmp_path / "made" / "film.png").unlink()
    for at in range(201):
        (tmp_path / "made" / f"{at}.txt").write_bytes(b"")
    with pytest.raises(DesignUnusable, match="more than 200 files"):
        read(tmp_path / "made")
    with pytest.raises(DesignUnusable, match="is not a folder"):
        read(tmp_path / "nowhere")


def test_editors_copies_and_hidden_files_are_no_part_of_a_design(tmp_path: Path) -> None:
    """So saving twice is no new design."""
    before = make_design(tmp_path / "made").digest
    for name in (".style.css.swp", "page.html~", ".git", "preview"):
        (tmp_path / "made" / name).write_bytes(b"x")
    assert read(tmp_path / "made").digest == before
    (tmp_path / "made" / "style.css").write_bytes(b"h1 { color: red }")
    assert read(tmp_path / "made").digest != before


@pytest.mark.parametrize(
    "name",
    [
        "",
        "../raffle-entry",
        "/etc",
        "nope",
        "raffle-entry-a3",
        "Raffle-Entry",
        "a" * 100,
        "e-ticket/../x",
    ],
)
def test_an_unknown_design_is_refused_with_those_that_exist(name: str, tmp_path: Path) -> None:
    with pytest.raises(DesignUnknown) as unknown:
        DesignLibrary((tmp_path,)).choose(name)
    assert "raffle-entry" in unknown.value.cause or "not a name" in unknown.value.cause


def test_a_word_of_the_manifest_may_be_called_as_what_tables_can_do(tmp_path: Path) -> None:
    words = ("[fields.holder]", '[text.en]\nitems = "Items"\nvalues = "Values"\n[fields.holder]')
    design = make_design(
        tmp_path / "made",
        page=(H1, "<h1>{{ text.items }} {{ text['values'] }}</h1>"),
        manifest=words,
    )
    assert "Items Values" in rendered_html(template_of(design).variant, SPRING)


def test_a_file_whose_name_is_no_text_is_refused(tmp_path: Path) -> None:
    make_design(tmp_path / "made")
    (tmp_path / "made" / os.fsdecode(b"x\xff.png")).write_bytes(b"")
    with pytest.raises(
        DesignUnusable, match=r"^delivery-design-unusable: made/'x\\udcff\.png': .* give it another"
    ):
        read(tmp_path / "made")


def test_a_folder_may_be_called_as_campaigns_of_the_first_release_called_a_built_in_one(
    tmp_path: Path,
) -> None:
    assert DesignLibrary((tmp_path,)).choose("plain").design.name == "event-ticket"
    make_design(tmp_path / "plain")
    assert DesignLibrary((tmp_path,)).choose("plain").design.manifest.title == "Test"


def test_a_folder_of_the_operator_comes_before_the_built_in_one(tmp_path: Path) -> None:
    own = make_design(tmp_path / "e-ticket")
    library = DesignLibrary((tmp_path,))
    assert library.choose("e-ticket").design.digest == own.digest
    assert library.choose("e-ticket-a5").size == "a5"
    assert library.choose("raffle-entry-phone").size == "phone"
    assert set(library.names()) == {"e-ticket", "event-ticket", "raffle-entry"}


@pytest.mark.parametrize("language", ["en", "de", "fr", "es", "nl"])
@pytest.mark.parametrize("sheet", VARIANTS[::3])
def test_a_built_in_design_holds_in_each_of_its_languages(sheet: str, language: str) -> None:
    variant = DesignLibrary().choose(sheet, language)
    laid_out = template_of(variant.design, variant.size, language).lay_out({}, None)
    assert len(laid_out.document.pages) == 1


def test_a_campaigns_words_are_text_and_no_markup_or_template(tmp_path: Path) -> None:
    """They come from the organiser; they pass through Jinja as values and are escaped."""
    for name in ("<script>x</script>", "{{ 7 * 7 }}", "</title></head><img src=x>", "A & B"):
        sheet = template_of(make_design(tmp_path / "made"), facts=replace(SPRING, name=name))
        assert sheet.title == name
