"""Plates that machines share: what one compiled, the others load; whatever the store does, the same
file is printed.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from typing_extensions import override

from services.delivery.printing import plates
from services.delivery.printing.design.library import DesignLibrary
from services.delivery.printing.errors import PlateUnreadable
from services.delivery.printing.fonts import faces
from services.delivery.printing.plate_bundle import MAGIC, PlateBundle, bundle_name
from services.delivery.printing.plate_cache import PlateCache, plate_key, sealed, unsealed
from services.delivery.printing.plates import PlateBlobs, pack
from services.delivery.printing.renderer import NoRenderTelemetry, Renderer
from tests.support.rendering import document_of, renderer, ticket

PAPER = document_of(ticket(design="e-ticket"))


@dataclass
class PlateMemoryStore:
    """A store in memory, which counts."""

    files: dict[str, bytes] = field(default_factory=dict)
    reads: list[str] = field(default_factory=list)
    writes: list[str] = field(default_factory=list)
    damages: dict[str, PlateUnreadable] = field(default_factory=dict)

    def read(self, name: str) -> bytes | None:
        self.reads.append(name)
        return self.files.get(name)

    def write(self, name: str, content: bytes) -> None:
        self.writes.append(name)
        self.files[name] = content

    def damaged(self, name: str, error: PlateUnreadable) -> None:
        self.damages[name] = error


class UnavailableStore(PlateMemoryStore):
    """Takes nothing and gives nothing."""

    @override
    def write(self, name: str, content: bytes) -> None:
        self.writes.append(name)


class RenderCounts(NoRenderTelemetry):
    def __init__(self) -> None:
        self.plates_compiled = self.plates_loaded = 0

    @override
    def compiled(self, seconds: float) -> None:
        self.plates_compiled += 1

    @override
    def plate_loaded(self, seconds: float) -> None:
        self.plates_loaded += 1


@dataclass
class Machine:
    """A machine with a plates folder of its own."""

    folder: Path
    store: PlateMemoryStore
    counts: RenderCounts = field(default_factory=RenderCounts)

    def __post_init__(self) -> None:
        self.plate_cache = PlateCache(self.folder, self.store)
        self.renderer = Renderer(DesignLibrary(), self.plate_cache, self.counts)

    def render(self) -> bytes:
        """Print, and wait for what is published meanwhile."""
        file = self.renderer.render(PAPER)
        for thread in threading.enumerate():
            if thread.name == "publish-plate":
                thread.join()
        return file

    @property
    def names(self) -> set[str]:
        return {path.name for path in self.folder.iterdir()}


Begin = Callable[..., Machine]


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Machine:
    """The machine that compiled first, and published."""
    folder = tmp_path_factory.mktemp("origin")
    renderer(folder, *PAPER.pages)
    machine = Machine(folder, PlateMemoryStore())
    machine.plate_cache.publish(plate_key(*machine.renderer.compile_input(PAPER.pages[0])))
    return machine


@pytest.fixture
def begin(origin: Machine, tmp_path: Path) -> Begin:
    """Start a machine with an empty folder, on a copy of the store that the first one filled."""

    def machine(store: PlateMemoryStore | None = None) -> Machine:
        folder = tmp_path / f"machine-{len(list(tmp_path.iterdir()))}"
        return Machine(
            folder, PlateMemoryStore(dict(origin.store.files)) if store is None else store
        )

    return machine


def compile_again(machine: Machine, origin: Machine) -> None:
    """What compiling would leave in the machine's folder."""
    for path in origin.folder.iterdir():
        shutil.copy(path, machine.folder)


def stored(origin: Machine) -> tuple[str, PlateBundle]:
    [(name, packed)] = origin.store.files.items()
    return name, PlateBundle.from_bytes(unsealed(name, packed))


def key_of(origin: Machine) -> str:
    return stored(origin)[0].removesuffix(".bundle")


def test_what_one_machine_compiled_another_loads_and_prints_the_same_bytes(
    begin: Begin, origin: Machine
) -> None:
    other = begin()
    assert other.render() == origin.render()
    assert (other.counts.plates_compiled, other.counts.plates_loaded) == (0, 1)
    assert other.store.writes == [], "what is there is not written again"
    compiled = {name for name in origin.names if not name.endswith(".stencil")}
    assert compiled <= other.names
    for name in compiled:
        assert (other.folder / name).read_bytes() == (origin.folder / name).read_bytes()


def test_a_machine_that_has_the_plate_does_not_read_the_store(begin: Begin) -> None:
    other = begin()
    other.render()
    second = Machine(other.folder, other.store)
    other.store.reads.clear()
    second.render()
    other.render()
    assert other.store.reads == []


def test_stamping_never_reads_the_store(begin: Begin) -> None:
    """It happens between two mails, and a store may take seconds."""
    other = begin()
    assert other.renderer.stamp(PAPER) is None
    assert other.store.reads == []


def test_what_is_not_in_the_store_is_compiled_and_published_once(
    begin: Begin, origin: Machine
) -> None:
    other = begin(PlateMemoryStore())
    for _ in range(2):
        assert other.render() == origin.render()
    for _ in range(3):
        other.plate_cache.publish(key_of(origin))
    assert (other.counts.plates_compiled, other.counts.plates_loaded) == (1, 0)
    assert other.store.writes == list(origin.store.files)
    assert other.store.files == origin.store.files


def test_a_store_that_is_unavailable_delays_nothing_but_the_compiling(
    begin: Begin, origin: Machine
) -> None:
    other = begin(UnavailableStore())
    assert other.render() == origin.render()
    other.plate_cache.publish(key_of(origin))
    assert other.counts.plates_compiled == 1
    assert len(other.store.writes) == 1, "it is not tried again by this process"


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "truncated": lambda packed: packed[: len(packed) // 2],
    "a byte longer": lambda packed: packed + b"\0",
    "a bit changed": lambda packed: packed[:-9] + bytes([packed[-9] ^ 4]) + packed[-8:],
    "without its seal": lambda packed: packed[32:],
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_damaged_is_reported_once_and_replaced_when_it_was_compiled_again(
    damage: str, begin: Begin, origin: Machine
) -> None:
    name, _ = stored(origin)
    other = begin(PlateMemoryStore({name: DAMAGES[damage](origin.store.files[name])}))
    assert not other.plate_cache.load_shared(key_of(origin))
    assert other.names == set()
    assert other.store.damages.keys() == {name}
    other.store.damages.clear()
    compile_again(other, origin)
    other.plate_cache.publish(key_of(origin))
    assert other.store.files == origin.store.files
    assert not other.store.damages


def test_a_plate_under_anothers_name_is_not_taken_for_it(begin: Begin, origin: Machine) -> None:
    name, _ = stored(origin)
    elsewhere = bundle_name("0" * 64)
    other = begin(PlateMemoryStore({elsewhere: origin.store.files[name]}))
    assert not other.plate_cache.load_shared("0" * 64)
    assert other.store.damages.keys() == {elsewhere}
    assert other.names == set()


def forged(origin: Machine) -> dict[str, bytes]:
    """Return contents with a right seal that are no plate with its faces."""
    _, bundle = stored(origin)
    plate = plates.from_bytes(bundle.plate)
    face, empty_face = next(iter(bundle.faces.values())), pack(faces.MAGIC, {}, PlateBlobs())

    def named(*digests: object) -> bytes:
        return plates.to_bytes(replace(plate, faces=digests))  # type: ignore[arg-type]  # hostile

    return {
        "nothing": b"",
        "no plate": pack(MAGIC, {"is_compared": True}, PlateBlobs()),
        "no object": pack(MAGIC, [], PlateBlobs([bundle.plate, *bundle.faces.values()])),
        "no face": pack(MAGIC, {}, PlateBlobs([bundle.plate])),
        "faces in another order": pack(
            MAGIC, {}, PlateBlobs([bundle.plate, *reversed(bundle.faces.values())])
        ),
        "a face of nothing": pack(
            MAGIC, {}, PlateBlobs([bundle.plate, *[empty_face] * len(bundle.faces)])
        ),
        "a face outside the folder": pack(MAGIC, {}, PlateBlobs([named("../../evil"), face])),
        "a face that is no text": pack(MAGIC, {}, PlateBlobs([named({"a": 1}), face])),
        "a number for a face": pack(MAGIC, {}, PlateBlobs([named(7), face])),
    }


@pytest.mark.parametrize(
    "kind",
    [
        "nothing",
        "no plate",
        "no object",
        "no face",
        "faces in another order",
        "a face of nothing",
        "a face outside the folder",
        "a face that is no text",
        "a number for a face",
    ],
)
def test_what_is_sealed_and_no_plate_writes_nothing(
    kind: str, begin: Begin, origin: Machine
) -> None:
    name, _ = stored(origin)
    other = begin(PlateMemoryStore({name: sealed(name, forged(origin)[kind])}))
    assert not other.plate_cache.load_shared(key_of(origin))
    assert other.names == set()
    assert other.store.damages.keys() == {name}


def test_a_proof_is_shared_and_is_never_taken_back(begin: Begin, origin: Machine) -> None:
    """A sender compiles without one; `campaigns apply` proves the plate, and others believe it."""
    key, store = key_of(origin), PlateMemoryStore(dict(origin.store.files))
    applied = begin(store)
    assert applied.plate_cache.load_shared(key)
    assert not applied.plate_cache.is_compared(key)
    plate = applied.plate_cache.plate(key)
    assert plate is not None
    applied.plate_cache.put_plate(key, plate, is_compared=True)
    applied.plate_cache.publish(key)
    other = begin(store)
    assert other.plate_cache.load_shared(key)
    assert other.plate_cache.is_compared(key)
    origin_again = Machine(origin.folder, store)
    origin_again.plate_cache.publish(key)
    assert store.writes == [bundle_name(key)]


def test_a_face_that_is_missing_here_is_loaded_too(begin: Begin, origin: Machine) -> None:
    other = begin()
    other.render()
    for path in other.folder.glob("*.face"):
        path.unlink()
    second = Machine(other.folder, other.store)
    assert second.render() == origin.render()
    assert (second.counts.plates_compiled, second.counts.plates_loaded) == (0, 1)


def test_a_face_that_only_this_processs_memory_has_is_written_for_the_others(
    begin: Begin, origin: Machine
) -> None:
    """A sender has two plate caches on one folder: what one loads, the other stamps with."""
    other = begin()
    other.render()
    for path in other.folder.glob("*.face"):
        path.unlink()
    assert other.plate_cache.load_shared(key_of(origin))
    assert Machine(other.folder, PlateMemoryStore()).renderer.stamp(PAPER) == origin.render()


def test_a_plate_without_its_faces_is_not_published(begin: Begin, origin: Machine) -> None:
    other = begin()
    other.render()
    next(iter(other.folder.glob("*.face"))).unlink()
    second = Machine(other.folder, PlateMemoryStore())
    second.plate_cache.publish(key_of(origin))
    assert second.store.writes == []


def test_a_sender_does_not_wait_until_its_plate_is_published(begin: Begin) -> None:
    release = threading.Event()

    class SlowStore(PlateMemoryStore):
        @override
        def write(self, name: str, content: bytes) -> None:
            assert release.wait(60)
            super().write(name, content)

    other = begin(SlowStore())
    assert other.renderer.render(PAPER).startswith(b"%PDF")
    assert other.store.writes == []
    release.set()
    other.render()
    assert len(other.store.writes) == 1
