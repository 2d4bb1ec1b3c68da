"""The layout worker: what cannot be stamped is laid out in a process of its own, with the same
bytes, under limits; no process is left behind.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from services.delivery.printing import plates
from services.delivery.printing.compile.layout import PageTemplate
from services.delivery.printing.compile.unstampable import plate_with_texts
from services.delivery.printing.design.library import Design, DesignLibrary, DesignVariant
from services.delivery.printing.errors import LayoutUnavailable, PlateUnreadable, TextUnprintable
from services.delivery.printing.plate_cache import PlateCache, plate_key
from services.delivery.printing.plates import Plate
from services.delivery.printing.renderer import Renderer
from services.delivery.printing.sandbox import limits as sandbox_limits
from services.delivery.printing.sandbox import wire
from services.delivery.printing.sandbox.layout_worker import LayoutWorker
from services.delivery.printing.sandbox.limits import CompileTask, SandboxLimits, SandboxProcess
from services.delivery.printing.sandbox.wire import WireMessage
from tests.support.corpus import ODD
from tests.support.rendering import (
    SPRING,
    compile_template,
    document_of,
    make_design,
    renderer,
    ticket,
)

ROOT = Path(__file__).resolve().parents[4]
MIB = 2**20
H1 = "<h1>{{ campaign.name }}</h1>"
HEAVY = "<div class='many'>{% for at in range(1500) %}<b>{{ at }}</b>{% endfor %}</div>"
TINY = (
    ".many { position: absolute; top: 0; left: 0; font-size: 0.2px; line-height: 0.2px } .many "
    "b { display: inline-block }"
)


class LayoutBench:
    """A design ready for the worker, beside what the same texts become when they are set in this
    process.
    """

    def __init__(self, design: Design, folder: Path, size: str = "a5") -> None:
        variant = DesignVariant(design, size, "en")
        self.task = CompileTask(variant, SPRING, PlateCache(folder), plate_key(variant, SPRING))
        self._template = PageTemplate(variant, SPRING)
        self.plate = compile_template(self._template).plate

    def here(self, unstampable: dict[str, str]) -> Plate:
        return plate_with_texts(
            self._template, self.plate, unstampable, self.task.plate_cache.subset_of
        )

    def by(self, worker: LayoutWorker, text: str = ODD["Thai"]) -> Plate:
        return worker.set_texts(self.task, self.plate, {"holder": text})


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> LayoutBench:
    return LayoutBench(
        make_design(tmp_path_factory.mktemp("designs") / "made"), tmp_path_factory.mktemp("shelf")
    )


@pytest.fixture(scope="module")
def heavy(tmp_path_factory: pytest.TempPathFactory) -> LayoutBench:
    """A second for each layout; it is compiled all the same."""
    design = make_design(
        tmp_path_factory.mktemp("designs") / "heavy", page=(H1, H1 + HEAVY), style=TINY
    )
    return LayoutBench(design, tmp_path_factory.mktemp("shelf"))


@pytest.fixture
def worker() -> Iterator[LayoutWorker]:
    worker = LayoutWorker()
    yield worker
    worker.close()


def is_there(pid: int) -> bool:
    """And is no corpse that waits for its parent."""
    stat = Path(f"/proc/{pid}/stat")
    try:
        return stat.read_text("ascii").rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def until(done: Callable[[], bool], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, "in vain"
        time.sleep(0.01)


def pid_of(worker: LayoutWorker) -> int:
    assert worker.pid is not None
    return worker.pid


def meanwhile(worker: LayoutWorker, act: Callable[[int], None]) -> threading.Thread:
    """To its process, as soon as it is at a job."""

    def wait_and_act() -> None:
        until(lambda: worker.pid is not None)
        pid = pid_of(worker)
        time.sleep(0.3)
        act(pid)

    thread = threading.Thread(target=wait_and_act)
    thread.start()
    return thread


def test_it_sets_the_same_bytes_as_are_set_here(bench: LayoutBench, worker: LayoutWorker) -> None:
    for text in ODD.values():
        for unstampable in ({"holder": text}, {"number": text, "holder": text[::-1]}):
            assert plates.to_bytes(
                worker.set_texts(bench.task, bench.plate, unstampable)
            ) == plates.to_bytes(bench.here(unstampable))


def test_one_process_sets_many_texts_in_many_designs(
    bench: LayoutBench, worker: LayoutWorker, tmp_path: Path
) -> None:
    other = LayoutBench(
        make_design(tmp_path / "other", style="h1 { color: red }"), tmp_path / "shelf"
    )
    bench.by(worker)
    pid = worker.pid
    assert other.by(worker) == other.here({"holder": ODD["Thai"]})
    assert bench.by(worker, ODD["Arabic"]) == bench.here({"holder": ODD["Arabic"]})
    assert worker.pid == pid


def test_a_sender_that_meets_no_unstampable_text_starts_no_process(plates_folder: Path) -> None:
    at_work = renderer(plates_folder, ticket())
    is_started = list[bool]()
    for name in ("Zoë Łukasz", ODD["Thai"]):
        at_work.render(document_of(ticket(holder=name)))
        is_started.append(at_work.layout_worker.pid is not None)
    assert is_started == [False, True]
    at_work.layout_worker.close()


def test_a_text_that_takes_too_long_is_refused_and_the_next_one_is_set(
    heavy: LayoutBench, bench: LayoutBench
) -> None:
    worker = LayoutWorker(SandboxLimits(seconds_max=1, wait_s_max=600, bytes_max=1_024 * MIB))
    with pytest.raises(TextUnprintable) as refused:
        heavy.by(worker)
    assert refused.value.cause == "heavy: holder: needs more than 1 s or 1,024 MiB to be laid out"
    assert worker.pid is None
    assert bench.by(worker) == bench.here({"holder": ODD["Thai"]})
    worker.close()


def test_a_process_that_only_waits_is_ended_by_the_clock(bench: LayoutBench) -> None:
    worker = LayoutWorker()
    bench.by(worker)
    stopped = pid_of(worker)
    os.kill(stopped, signal.SIGSTOP)
    assert worker._process is not None
    worker._process._limits = SandboxLimits(
        wait_s_max=0.2
    )  # of the stopped process alone: the next one may be as slow as it is
    assert bench.by(worker, ODD["Arabic"]) == bench.here({"holder": ODD["Arabic"]}), (
        "it was not the text's fault"
    )
    assert not is_there(stopped)
    worker.close()


@pytest.mark.slow
def test_a_text_that_takes_too_much_memory_is_refused_and_the_next_one_is_set(
    bench: LayoutBench, tmp_path: Path
) -> None:
    fat = make_design(tmp_path / "fat", page=(H1, H1 + HEAVY.replace("1500", "9000")), style=TINY)
    task = CompileTask(
        DesignVariant(fat, "a5", "en"), SPRING, PlateCache(tmp_path / "shelf"), "fat"
    )
    worker = LayoutWorker(SandboxLimits(bytes_max=345 * MIB))
    with pytest.raises(TextUnprintable, match="fat: holder: needs more than 60 s or 345 MiB"):
        worker.set_texts(task, bench.plate, {"holder": ODD["Thai"]})
    assert bench.by(worker) == bench.here({"holder": ODD["Thai"]})
    worker.close()


@pytest.mark.slow
def test_killed_in_the_middle_of_a_job_it_is_done_again_with_the_same_bytes(
    heavy: LayoutBench, worker: LayoutWorker
) -> None:
    killed: list[int] = []

    def kill(pid: int) -> None:
        killed.append(pid)
        os.kill(pid, signal.SIGKILL)

    thread = meanwhile(worker, kill)
    plate = heavy.by(worker)
    thread.join()
    assert worker.pid not in {None, *killed}
    assert plates.to_bytes(plate) == plates.to_bytes(heavy.here({"holder": ODD["Thai"]}))


def test_killed_each_time_it_is_the_texts_fault(
    bench: LayoutBench, worker: LayoutWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[int] = []
    request = SandboxProcess.request

    def killed(self: SandboxProcess, message: WireMessage) -> WireMessage:
        started.append(self.pid)
        os.kill(self.pid, signal.SIGKILL)
        return request(self, message)

    with monkeypatch.context() as patched:
        patched.setattr(SandboxProcess, "request", killed)
        with pytest.raises(TextUnprintable, match="made: holder"):
            bench.by(worker)
    assert len(set(started)) == 2, "once more, and in a process that is new"
    assert not any(map(is_there, started))
    assert bench.by(worker) == bench.here({"holder": ODD["Thai"]})


def test_a_failure_in_it_is_reported_and_it_goes_on(
    bench: LayoutBench, worker: LayoutWorker
) -> None:
    bench.by(worker)
    pid = worker.pid
    with pytest.raises(TextUnprintable, match="made: nowhere: KeyError"):
        worker.set_texts(bench.task, bench.plate, {"nowhere": "x"})
    assert bench.by(worker) == bench.here({"holder": ODD["Thai"]})
    assert worker.pid == pid


def test_a_process_that_cannot_start_is_not_the_texts_fault(
    bench: LayoutBench, worker: LayoutWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(sandbox_limits, "PROGRAM", "services.delivery.printing.nowhere")
        with pytest.raises(LayoutUnavailable, match=r"ends as it starts.*No module named"):
            bench.by(worker)
        patched.setattr(sys, "executable", "/nowhere/python")
        with pytest.raises(LayoutUnavailable, match="no process can be started"):
            bench.by(worker)
    assert bench.by(worker) == bench.here({"holder": ODD["Thai"]})


def test_after_so_many_texts_it_is_another_process_and_the_same_bytes(bench: LayoutBench) -> None:
    worker, pids = LayoutWorker(requests_max=2), list[int | None]()
    for text in (ODD["Thai"], ODD["Arabic"], ODD["Thai"]):
        assert bench.by(worker, text) == bench.here({"holder": text})
        pids.append(worker.pid)
    assert pids[1] is None
    assert pids[0] != pids[2]
    assert not is_there(pids[0] or 0)
    worker.close()


def test_one_that_has_grown_is_ended(bench: LayoutBench) -> None:
    worker = LayoutWorker(resident_bytes_max=MIB)
    bench.by(worker)
    assert worker.pid is None


def test_a_face_that_was_removed_is_made_again(tmp_path: Path, worker: LayoutWorker) -> None:
    """The worker has cached it, and does not write it again."""
    bench = LayoutBench(make_design(tmp_path / "made"), tmp_path / "shelf")
    bench.by(worker)
    for path in (tmp_path / "shelf").glob("*.face"):
        path.unlink()
    fresh = CompileTask(bench.task.variant, SPRING, PlateCache(tmp_path / "shelf"), bench.task.key)
    repeated = worker.set_texts(fresh, bench.plate, {"holder": ODD["Arabic"]})
    assert repeated.faces
    assert all(fresh.plate_cache.subset(face) is not None for face in repeated.faces)


PARENT = """
import os, pathlib, sys, threading
from services.delivery.printing.design.library import DesignLibrary
from services.delivery.printing.renderer import Renderer
from services.delivery.printing.plate_cache import PlateCache
from tests.support.corpus import ODD
from tests.support.rendering import document_of, ticket
at_work = Renderer(DesignLibrary((pathlib.Path(sys.argv[1]),)), PlateCache(pathlib.Path(sys.argv[2])))
at_work.render(document_of(ticket(holder=ODD["Thai"], design="event-ticket")))
print(at_work.layout_worker.pid, flush=True)
if sys.argv[3] == "at work":
    at_work.render(document_of(ticket(design="heavy")))
    print("stamped", flush=True)
    at_work.render(document_of(ticket(holder=ODD["Thai"], design="heavy")))
threading.Event().wait()
"""  # noqa: E501 - a row of a table, or a program


@pytest.mark.slow
@pytest.mark.parametrize("state", ["idle", "at work"])
def test_a_killed_parent_leaves_no_process_behind(
    state: str, tmp_path: Path, plates_folder: Path
) -> None:
    """Not even one that is in the middle of a job."""
    make_design(tmp_path / "heavy", page=(H1, H1 + HEAVY), style=TINY)
    command = [sys.executable, "-c", PARENT, str(tmp_path), str(plates_folder), state]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        if state == "at work":
            assert parent.stdout.readline() == b"stamped\n"
            time.sleep(0.5)
        assert is_there(pid)
        parent.kill()
    until(lambda: not is_there(pid))


def test_it_does_not_obey_a_signal_for_its_parent(bench: LayoutBench, worker: LayoutWorker) -> None:
    """Ctrl-C and a supervisor's SIGTERM go to all processes; the parent finishes the mail in
    hand.
    """
    bench.by(worker)
    pid = pid_of(worker)
    for signum in (signal.SIGINT, signal.SIGTERM):
        os.kill(pid, signum)
    assert bench.by(worker, ODD["Arabic"]) == bench.here({"holder": ODD["Arabic"]})
    assert worker.pid == pid


def test_a_worker_that_is_dropped_takes_its_process_with_it(bench: LayoutBench) -> None:
    worker = LayoutWorker()
    bench.by(worker)
    pid = pid_of(worker)
    del worker
    until(lambda: not is_there(pid))


@pytest.mark.parametrize(
    "written", [b"", b"\0\0", b"\0\0\0\x05abc", b"\xff\xff\xff\xff", b"\0\0\0\x03abc"]
)
def test_what_is_no_reply_is_none(written: bytes) -> None:
    """Cut off, too long, or no frame at all."""
    source, to = os.pipe()
    os.write(to, written)
    os.close(to)
    try:
        assert wire.read(source) is None
    except PlateUnreadable:
        assert len(written) >= 4
    os.close(source)


def test_the_worker_uses_the_senders_library(tmp_path: Path, plates_folder: Path) -> None:
    """What was chosen is laid out, whatever stands in its folder by now."""
    make_design(tmp_path / "own")
    page = ticket(design="own", holder=ODD["Thai"])
    at_work = Renderer(
        DesignLibrary((tmp_path,)),
        renderer(plates_folder, page, library=DesignLibrary((tmp_path,))).plate_cache,
    )
    before = at_work.render(document_of(page))
    make_design(tmp_path / "own", style="h1 { color: red }")
    at_work.layout_worker.close()
    at_work._stamps.clear()
    assert at_work.render(document_of(page)) == before
