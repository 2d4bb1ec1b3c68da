"""The plate cache: what is not what was written is made again, with the same bytes; processes share
it without harm.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import weasyprint
from weasyprint.text.ffi import pango

from services.delivery.printing import plate_cache, plates, qr
from services.delivery.printing.compile.layout import PageFont
from services.delivery.printing.design.library import DesignLibrary
from services.delivery.printing.errors import PlatesFolderUnusable, PlateUnreadable
from services.delivery.printing.fonts import faces, packaged
from services.delivery.printing.fonts.faces import FontSubset
from services.delivery.printing.plate_cache import PlateCache, plate_key
from services.delivery.printing.plates import PlateBlobs, pack
from services.delivery.printing.renderer import Renderer, facts_of
from services.delivery.printing.sandbox import child as apart
from services.delivery.printing.sandbox.limits import CompileTask
from tests.support.corpus import ODD
from tests.support.rendering import compiled_design, document_of, make_design, renderer, ticket

ROOT = Path(__file__).resolve().parents[4]
PAPER = document_of(ticket(design="e-ticket"))
KINDS = ("plate", "face", "qr")
Damage = Callable[[bytes], bytes]


def flipped(at: float) -> Damage:
    """One bit, so far behind the beginning."""

    def damage(content: bytes) -> bytes:
        place = int(at * (len(content) - 1))
        return content[:place] + bytes([content[place] ^ 0x04]) + content[place + 1 :]

    return damage


DAMAGES: dict[str, Damage] = {
    "empty": lambda _: b"",
    "cut in its head": lambda content: content[:40],
    "cut in the middle": lambda content: content[: len(content) // 2],
    "cut by one byte": lambda content: content[:-1],
    "with more behind it": lambda content: content + b"\0",
    "another program's": lambda _: b"\x89PNG\r\n\x1a\n" + bytes(4_000),
    "zeros": lambda content: bytes(len(content)),
    "another release's": lambda content: content.replace(b"-1\n", b"-9\n", 1).replace(
        b"QRST\x01", b"QRST\x09", 1
    ),
    "of the same form, but nothing in it": lambda content: pack(
        content.split(b"\n")[0] + b"\n", {}, PlateBlobs()
    ),
    "a bit changed at the end": flipped(1.0),
    "a bit changed in the middle": flipped(0.5),
    "a bit changed near the beginning": flipped(0.02),
}


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plate cache with all that PAPER needs."""
    folder = tmp_path_factory.mktemp("filled")
    renderer(folder, *PAPER.pages).render(PAPER)
    return folder


@pytest.fixture
def folder(filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy. What is missing in it is compiled here: the laws are the cache's, not the other
    process's.
    """
    for path in filled.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    monkeypatch.setattr("services.delivery.printing.renderer.compile_in_sandbox", compile_here)
    return tmp_path


def compile_here(task: CompileTask) -> float:
    apart.compile_and_store(task.variant, task.facts, task.plate_cache, task.key)
    return 0.0


def fresh(folder: Path) -> Renderer:
    return Renderer(DesignLibrary(), PlateCache(folder))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_made_again_and_prints_the_same_bytes(
    kind: str, damage: str, folder: Path, filled: Path
) -> None:
    for path in folder.glob(f"*.{kind}"):
        path.write_bytes(DAMAGES[damage](path.read_bytes()))
    assert fresh(folder).render(PAPER) == renderer(filled).render(PAPER)
    for path in filled.glob(f"*.{kind}"):
        assert (folder / path.name).read_bytes() == path.read_bytes(), "repaired in the cache too"


@pytest.mark.parametrize("kind", KINDS)
def test_a_missing_file_is_made_again(kind: str, folder: Path, filled: Path) -> None:
    for path in folder.glob(f"*.{kind}"):
        path.unlink()
    assert fresh(folder).render(PAPER) == renderer(filled).render(PAPER)


def test_a_file_under_anothers_name_is_not_taken_for_it(
    folder: Path, filled: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Another design's plate, another font's face, the QR template of longer codes: each sound in
    itself.
    """
    other = tmp_path_factory.mktemp("other")
    elsewhere = ticket(design="raffle-entry-phone")
    renderer(other, elsewhere).render(document_of(elsewhere))
    (plate,) = folder.glob("*.plate")
    (foreign,) = other.glob("*.plate")
    plate.write_bytes(foreign.read_bytes())
    faces_here, faces_there = sorted(folder.glob("*.face")), sorted(other.glob("*.face"))
    foreign_face = next(
        path for path in faces_there if path.name not in {face.name for face in faces_here}
    )
    faces_here[0].write_bytes(foreign_face.read_bytes())
    (qr_template,) = folder.glob("*.qr")
    qr_template.write_bytes(qr.build_qr_template(47).to_bytes())
    assert fresh(folder).render(PAPER) == renderer(filled).render(PAPER)


def test_a_face_damaged_while_a_sender_runs_is_not_read_again(folder: Path, filled: Path) -> None:
    at_work = fresh(folder)
    before = at_work.render(PAPER)
    for path in folder.iterdir():
        path.write_bytes(b"")
    assert at_work.render(PAPER) == before == renderer(filled).render(PAPER)


def test_what_is_laid_out_needs_nothing_more_of_the_plate_cache(folder: Path, filled: Path) -> None:
    unstampable = document_of(ticket(design="e-ticket", holder=ODD["Thai"]))
    assert fresh(folder).render(unstampable) == renderer(filled).render(unstampable)


def test_loading_a_plate_lays_nothing_out(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("WeasyPrint was called")

    for owner, name in (
        (weasyprint.HTML, "render"),
        (weasyprint.HTML, "__init__"),
        (weasyprint.CSS, "__init__"),
    ):
        monkeypatch.setattr(owner, name, never)
    monkeypatch.setattr("services.delivery.printing.renderer.compile_in_sandbox", never)
    monkeypatch.setattr("services.delivery.printing.fonts.faces.compile_subset", never)
    monkeypatch.setattr("services.delivery.printing.qr.build_qr_template", never)
    assert fresh(folder).render(PAPER).startswith(b"%PDF")


COMPILE = """
import pathlib, sys
from tests.support.rendering import document_of, ticket
from services.delivery.printing.design.library import DesignLibrary
from services.delivery.printing.renderer import Renderer
from services.delivery.printing.plate_cache import PlateCache
sys.stdin.readline()
file = Renderer(DesignLibrary(), PlateCache(pathlib.Path(sys.argv[1]))).render(document_of(ticket(design="e-ticket")))
sys.stdout.buffer.write(file)
"""  # noqa: E501 - a row of a table, or a program


@pytest.mark.slow
def test_two_processes_that_compile_at_once_print_the_same_and_leave_no_litter(
    filled: Path, tmp_path: Path
) -> None:
    command = [sys.executable, "-c", COMPILE, str(tmp_path / "shelf")]
    started = [
        subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        for _ in range(2)
    ]
    files = [process.communicate(b"go\n", timeout=60)[0] for process in reversed(started)]
    assert [process.returncode for process in started] == [0, 0]
    assert files == [renderer(filled).render(PAPER)] * 2
    assert {path.name for path in (tmp_path / "shelf").iterdir()} == {
        path.name for path in filled.iterdir()
    }


def test_a_plate_survives_its_bytes() -> None:
    for reference in ("raffle-entry-a4", "event-ticket-phone"):
        plate = compiled_design(reference).plate
        decoded = plates.from_bytes(plates.to_bytes(plate))
        assert decoded == plate
        assert plates.to_bytes(decoded) == plates.to_bytes(plate)


def test_a_face_survives_its_bytes() -> None:
    at_work = compiled_design("raffle-entry-a4")
    for subset in filter(
        None, (at_work.stamp.subsets.subset(face) for face in at_work.plate.faces)
    ):
        decoded: FontSubset = faces.from_bytes(faces.to_bytes(subset))
        assert decoded == subset
        assert faces.to_bytes(decoded) == faces.to_bytes(subset)


def test_a_file_that_two_designs_call_differently_is_a_face_for_each(tmp_path: Path) -> None:
    """The name is printed, and whose design was compiled first must not decide it."""
    content = packaged.font("SourceSansPro-Regular.ttf")
    names, plate_cache = ["Source Sans Pro", "Mine"], PlateCache(tmp_path)
    for at in (plate_cache, PlateCache(tmp_path)):
        subsets = [
            at.subset_of(PageFont(content, 0, name, is_variable=False), "", frozenset())
            for name in names
        ]
        assert [subset.family for subset in subsets] == names
        assert [at.subset(subset.digest) for subset in subsets] == subsets


def keys(folder: Path) -> dict[str, str]:
    library = DesignLibrary()
    page = ticket(design="e-ticket")
    facts = facts_of(page)
    variant = library.choose("e-ticket")
    own = make_design(folder / "made")
    return {
        "itself": plate_key(variant, facts),
        "another design": plate_key(library.choose("raffle-entry"), facts),
        "another size": plate_key(library.choose("e-ticket-phone"), facts),
        "another language": plate_key(library.choose("e-ticket", "de"), facts),
        "another campaign": plate_key(variant, facts_of(ticket(campaign_id="autumn"))),
        "another name": plate_key(variant, facts_of(ticket(campaign="Autumn"))),
        "another date": plate_key(variant, facts_of(ticket(when="now"))),
        "another place": plate_key(variant, facts_of(ticket(venue="there"))),
        "a date instead of a place": plate_key(variant, facts_of(ticket(when="x", venue=""))),
        "a place instead of a date": plate_key(variant, facts_of(ticket(when="", venue="x"))),
        "an edit": own.digest + make_design(folder / "made", style=" ").digest,
    }


def test_whatever_changes_a_plate_changes_its_key(tmp_path: Path) -> None:
    all_keys = keys(tmp_path)
    assert len(set(all_keys.values())) == len(all_keys)


def test_other_bytes_of_a_packaged_font_are_another_key(monkeypatch: pytest.MonkeyPatch) -> None:
    variant, facts = DesignLibrary().choose("e-ticket"), facts_of(ticket())
    own, digest = plate_key(variant, facts), packaged.fonts_digest()
    real = packaged.font
    monkeypatch.setattr(
        packaged, "font", lambda name: real(name) + b"\0" * name.endswith("Bold.ttf")
    )
    packaged.fonts_digest.cache_clear()
    try:
        assert packaged.fonts_digest() != digest
        assert plate_key(variant, facts) != own
    finally:
        packaged.fonts_digest.cache_clear()


def test_the_plate_cache_is_only_the_services_own(tmp_path: Path) -> None:
    """A plate decides what is printed: nobody else may write it."""
    PlateCache(tmp_path / "new" / "shelf")
    assert (tmp_path / "new" / "shelf").stat().st_mode & 0o077 == 0


def aged(folder: Path, days: float) -> None:
    for path in folder.iterdir():
        at = time.time() - days * 86_400
        os.utime(path, (at, at))


def test_what_was_not_loaded_for_long_is_purged_and_made_again(folder: Path, filled: Path) -> None:
    at_work = fresh(folder)
    before = at_work.render(PAPER)
    aged(folder, 91)
    (folder / "somebody.else").write_bytes(b"")
    aged(folder, 91)
    assert at_work.plate_cache.purge(0) == 0
    assert at_work.plate_cache.purge(90) == len([*filled.glob("*.plate"), *filled.glob("*.face")])
    assert {path.suffix for path in folder.iterdir()} == {".qr", ".else"}
    assert at_work.render(PAPER) == before, "what is loaded is used on"
    assert fresh(folder).render(PAPER) == before


def test_what_is_in_use_is_not_purged(folder: Path, filled: Path) -> None:
    aged(folder, 91)
    fresh(folder).render(PAPER)
    assert PlateCache(folder).purge(90) == 0
    assert {path.name for path in folder.iterdir()} == {path.name for path in filled.iterdir()}


def test_what_a_killed_process_left_half_written_is_purged(folder: Path) -> None:
    (folder / ".part-abcd1234").write_bytes(b"half")
    assert PlateCache(folder).purge(1) == 0, "somebody may be writing it"
    aged(folder, 2)
    assert PlateCache(folder).purge(1) > 0
    assert not (folder / ".part-abcd1234").exists()


def test_a_face_that_is_removed_as_soon_as_it_is_compiled_is_made_again_by_the_next_try(
    folder: Path, filled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A purge beside us: nothing broken is remembered."""
    for path in folder.glob("*.plate"):
        path.unlink()
    at_work = fresh(folder)

    def robbed(task: CompileTask) -> float:
        compile_here(
            CompileTask(task.variant, task.facts, PlateCache(folder), task.key)
        )  # as the other process: a shelf of its own
        for path in folder.glob("*.face"):
            path.unlink()
        return 0.0

    with monkeypatch.context() as patched:
        patched.setattr("services.delivery.printing.renderer.compile_in_sandbox", robbed)
        with pytest.raises(PlateUnreadable):
            at_work.render(PAPER)
    assert at_work.render(PAPER) == renderer(filled).render(PAPER)


def test_versions_are_those_of_the_libraries_that_lay_out() -> None:
    """They are read without WeasyPrint, and are part of every file's key."""
    assert plate_cache.versions().split()[1:3] == [weasyprint.VERSION, str(pango.pango_version())]


def test_a_sender_imports_nothing_that_lays_out() -> None:
    """It would be 40 MB of each sender, and half a second of each start."""
    modules = "services.delivery.rendering, services.delivery.sender.process"
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            f"import sys, {modules}; print(bool({{'weasyprint', 'pydyf'}} & sys.modules.keys()))",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "False\n"


def test_what_cannot_be_written_is_the_folders_fault_and_leaves_nothing(
    tmp_path: Path,
) -> None:
    own = PlateCache(tmp_path / "shelf")
    (tmp_path / "shelf" / f"{'0' * 64}.plate").mkdir()
    with pytest.raises(PlatesFolderUnusable, match=r"shelf cannot be written: .*directory"):
        own.put_plate("0" * 64, compiled_design("event-ticket-a5").plate)
    assert [path.suffix for path in (tmp_path / "shelf").iterdir()] == [".plate"]
    assert own.plate("0" * 64) is None


@pytest.mark.parametrize("mode", [0o700, 0o750, 0o2770])
def test_who_may_list_the_folder_may_read_what_is_in_it(mode: int, tmp_path: Path) -> None:
    """A campaign may be applied by another user than the senders' own."""
    own = PlateCache(tmp_path / "shelf")
    (tmp_path / "shelf").chmod(mode)
    own.put_plate("0" * 64, compiled_design("event-ticket-a5").plate)
    assert (tmp_path / "shelf" / f"{'0' * 64}.plate").stat().st_mode & 0o777 == mode & 0o666
