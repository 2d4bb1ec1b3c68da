"""The press: what cannot be stamped is set in a process of its own, with the same bytes, and under
a ceiling; none is left behind.
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
from services.delivery.printing.sandbox import limits as ceiling
from services.delivery.printing.sandbox import wire
from services.delivery.printing.sandbox.layout_worker import LayoutWorker
from services.delivery.printing.sandbox.limits import CompileTask, SandboxLimits, SandboxProcess
from services.delivery.printing.sandbox.wire import WireMessage
from tests.support.corpus import ODD
from tests.support.rendering import SPRING, made, paper, pressed, renderer, ticket

ROOT = Path(__file__).resolve().parents[4]
MIB = 2**20
H1 = "<h1>{{ campaign.name }}</h1>"
HEAVY = "<div class='many'>{% for at in range(1500) %}<b>{{ at }}</b>{% endfor %}</div>"
TINY = (
    ".many { position: absolute; top: 0; left: 0; font-size: 0.2px; line-height: 0.2px } .many "
    "b { display: inline-block }"
)


class Desk:
    """A design ready for the press, beside what the same texts become when they are set here."""

    def __init__(self, design: Design, folder: Path, size: str = "a5") -> None:
        chosen = DesignVariant(design, size, "en")
        self.task = CompileTask(chosen, SPRING, PlateCache(folder), plate_key(chosen, SPRING))
        self._sheet = PageTemplate(chosen, SPRING)
        self.plate = pressed(self._sheet).plate

    def here(self, odd: dict[str, str]) -> Plate:
        return plate_with_texts(self._sheet, self.plate, odd, self.task.shelf.kit_of)

    def by(self, press: LayoutWorker, text: str = ODD["Greek"]) -> Plate:
        return press.whole(self.task, self.plate, {"holder": text})


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    return Desk(made(tmp_path_factory.mktemp("designs") / "made"), tmp_path_factory.mktemp("shelf"))


@pytest.fixture(scope="module")
def heavy(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    """A second for each layout; it is compiled all the same."""
    design = made(tmp_path_factory.mktemp("designs") / "heavy", page=(H1, H1 + HEAVY), style=TINY)
    return Desk(design, tmp_path_factory.mktemp("shelf"))


@pytest.fixture
def press() -> Iterator[LayoutWorker]:
    it = LayoutWorker()
    yield it
    it.close()


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


def pid_of(press: LayoutWorker) -> int:
    assert press.pid is not None
    return press.pid


def meanwhile(press: LayoutWorker, act: Callable[[int], None]) -> threading.Thread:
    """To its process, as soon as it is at a job."""

    def wait_and_act() -> None:
        until(lambda: press.pid is not None)
        pid = pid_of(press)
        time.sleep(0.3)
        act(pid)

    thread = threading.Thread(target=wait_and_act)
    thread.start()
    return thread


def test_it_sets_the_same_bytes_as_are_set_here(desk: Desk, press: LayoutWorker) -> None:
    for text in ODD.values():
        for odd in ({"holder": text}, {"number": text, "holder": text[::-1]}):
            assert plates.to_bytes(press.whole(desk.task, desk.plate, odd)) == plates.to_bytes(
                desk.here(odd)
            )


def test_one_process_sets_many_texts_in_many_designs(
    desk: Desk, press: LayoutWorker, tmp_path: Path
) -> None:
    other = Desk(made(tmp_path / "other", style="h1 { color: red }"), tmp_path / "shelf")
    desk.by(press)
    pid = press.pid
    assert other.by(press) == other.here({"holder": ODD["Greek"]})
    assert desk.by(press, ODD["Arabic"]) == desk.here({"holder": ODD["Arabic"]})
    assert press.pid == pid


def test_a_sender_that_meets_no_odd_text_starts_none(shelf_folder: Path) -> None:
    at_work = renderer(shelf_folder, ticket())
    is_started = list[bool]()
    for name in ("Zoë Łukasz", ODD["Greek"]):
        at_work.render(paper(ticket(holder=name)))
        is_started.append(at_work.press.pid is not None)
    assert is_started == [False, True]
    at_work.press.close()


def test_a_text_that_takes_too_long_is_refused_and_the_next_one_is_set(
    heavy: Desk, desk: Desk
) -> None:
    press = LayoutWorker(SandboxLimits(seconds_max=1, wait_s_max=600, bytes_max=1_024 * MIB))
    with pytest.raises(TextUnprintable) as told:
        heavy.by(press)
    assert told.value.cause == "heavy: holder: needs more than 1 s or 1,024 MiB to be laid out"
    assert press.pid is None
    assert desk.by(press) == desk.here({"holder": ODD["Greek"]})
    press.close()


def test_a_process_that_only_waits_is_ended_by_the_clock(desk: Desk) -> None:
    press = LayoutWorker()
    desk.by(press)
    stopped = pid_of(press)
    os.kill(stopped, signal.SIGSTOP)
    assert press._apart is not None
    press._apart._ceiling = SandboxLimits(
        wait_s_max=0.2
    )  # of the stopped process alone: the next one may be as slow as it is
    assert desk.by(press, ODD["Arabic"]) == desk.here({"holder": ODD["Arabic"]}), (
        "it was not the text's fault"
    )
    assert not is_there(stopped)
    press.close()


@pytest.mark.slow
def test_a_text_that_takes_too_much_memory_is_refused_and_the_next_one_is_set(
    desk: Desk, tmp_path: Path
) -> None:
    fat = made(tmp_path / "fat", page=(H1, H1 + HEAVY.replace("1500", "9000")), style=TINY)
    task = CompileTask(
        DesignVariant(fat, "a5", "en"), SPRING, PlateCache(tmp_path / "shelf"), "fat"
    )
    press = LayoutWorker(SandboxLimits(bytes_max=345 * MIB))
    with pytest.raises(TextUnprintable, match="fat: holder: needs more than 60 s or 345 MiB"):
        press.whole(task, desk.plate, {"holder": ODD["Greek"]})
    assert desk.by(press) == desk.here({"holder": ODD["Greek"]})
    press.close()


@pytest.mark.slow
def test_killed_in_the_middle_of_a_job_it_is_done_again_with_the_same_bytes(
    heavy: Desk, press: LayoutWorker
) -> None:
    killed: list[int] = []

    def kill(pid: int) -> None:
        killed.append(pid)
        os.kill(pid, signal.SIGKILL)

    thread = meanwhile(press, kill)
    plate = heavy.by(press)
    thread.join()
    assert press.pid not in {None, *killed}
    assert plates.to_bytes(plate) == plates.to_bytes(heavy.here({"holder": ODD["Greek"]}))


def test_killed_each_time_it_is_the_texts_fault(
    desk: Desk, press: LayoutWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[int] = []
    ask = SandboxProcess.ask

    def killed(self: SandboxProcess, said: WireMessage) -> WireMessage:
        started.append(self.pid)
        os.kill(self.pid, signal.SIGKILL)
        return ask(self, said)

    with monkeypatch.context() as patched:
        patched.setattr(SandboxProcess, "ask", killed)
        with pytest.raises(TextUnprintable, match="made: holder"):
            desk.by(press)
    assert len(set(started)) == 2, "once more, and in a process that is new"
    assert not any(map(is_there, started))
    assert desk.by(press) == desk.here({"holder": ODD["Greek"]})


def test_what_fails_in_it_is_told_and_it_goes_on(desk: Desk, press: LayoutWorker) -> None:
    desk.by(press)
    pid = press.pid
    with pytest.raises(TextUnprintable, match="made: nowhere: KeyError"):
        press.whole(desk.task, desk.plate, {"nowhere": "x"})
    assert desk.by(press) == desk.here({"holder": ODD["Greek"]})
    assert press.pid == pid


def test_a_process_that_cannot_start_is_not_the_texts_fault(
    desk: Desk, press: LayoutWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(ceiling, "PROGRAM", "services.delivery.printing.nowhere")
        with pytest.raises(LayoutUnavailable, match=r"ends as it starts.*No module named"):
            desk.by(press)
        patched.setattr(sys, "executable", "/nowhere/python")
        with pytest.raises(LayoutUnavailable, match="no process can be started"):
            desk.by(press)
    assert desk.by(press) == desk.here({"holder": ODD["Greek"]})


def test_after_so_many_texts_it_is_another_process_and_the_same_bytes(desk: Desk) -> None:
    press, pids = LayoutWorker(jobs_max=2), list[int | None]()
    for text in (ODD["Greek"], ODD["Arabic"], ODD["Greek"]):
        assert desk.by(press, text) == desk.here({"holder": text})
        pids.append(press.pid)
    assert pids[1] is None
    assert pids[0] != pids[2]
    assert not is_there(pids[0] or 0)
    press.close()


def test_one_that_has_grown_is_ended(desk: Desk) -> None:
    press = LayoutWorker(resident_bytes_max=MIB)
    desk.by(press)
    assert press.pid is None


def test_a_face_that_is_gone_is_made_anew(tmp_path: Path, press: LayoutWorker) -> None:
    """The press remembers it, and does not write it again."""
    desk = Desk(made(tmp_path / "made"), tmp_path / "shelf")
    desk.by(press)
    for path in (tmp_path / "shelf").glob("*.face"):
        path.unlink()
    fresh = CompileTask(desk.task.chosen, SPRING, PlateCache(tmp_path / "shelf"), desk.task.key)
    again = press.whole(fresh, desk.plate, {"holder": ODD["Arabic"]})
    assert again.faces
    assert all(fresh.shelf.kit(face) is not None for face in again.faces)


PARENT = """
import os, pathlib, sys, threading
from services.delivery.printing.design.library import DesignLibrary
from services.delivery.printing.renderer import Renderer
from services.delivery.printing.plate_cache import PlateCache
from tests.support.corpus import ODD
from tests.support.rendering import paper, ticket
at_work = Renderer(Library((pathlib.Path(sys.argv[1]),)), PlateCache(pathlib.Path(sys.argv[2])))
at_work.render(paper(ticket(holder=ODD["Greek"], design="event-ticket")))
print(at_work.press.pid, flush=True)
if sys.argv[3] == "at work":
    at_work.render(paper(ticket(design="heavy")))
    print("stamped", flush=True)
    at_work.render(paper(ticket(holder=ODD["Greek"], design="heavy")))
threading.Event().wait()
"""


@pytest.mark.slow
@pytest.mark.parametrize("state", ["idle", "at work"])
def test_a_killed_parent_leaves_none_behind(state: str, tmp_path: Path, shelf_folder: Path) -> None:
    """Not even one that is in the middle of a job."""
    made(tmp_path / "heavy", page=(H1, H1 + HEAVY), style=TINY)
    command = [sys.executable, "-c", PARENT, str(tmp_path), str(shelf_folder), state]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        if state == "at work":
            assert parent.stdout.readline() == b"stamped\n"
            time.sleep(0.5)
        assert is_there(pid)
        parent.kill()
    until(lambda: not is_there(pid))


def test_it_does_not_obey_what_is_meant_for_its_parent(desk: Desk, press: LayoutWorker) -> None:
    """Ctrl-C and a supervisor's SIGTERM go to all processes; the parent finishes the mail in
    hand.
    """
    desk.by(press)
    pid = pid_of(press)
    for signum in (signal.SIGINT, signal.SIGTERM):
        os.kill(pid, signum)
    assert desk.by(press, ODD["Arabic"]) == desk.here({"holder": ODD["Arabic"]})
    assert press.pid == pid


def test_a_press_that_is_forgotten_takes_its_process_with_it(desk: Desk) -> None:
    press = LayoutWorker()
    desk.by(press)
    pid = pid_of(press)
    del press
    until(lambda: not is_there(pid))


@pytest.mark.parametrize(
    "written", [b"", b"\0\0", b"\0\0\0\x05abc", b"\xff\xff\xff\xff", b"\0\0\0\x03abc"]
)
def test_what_is_no_answer_is_none(written: bytes) -> None:
    """Cut off, too long, or no frame at all."""
    source, to = os.pipe()
    os.write(to, written)
    os.close(to)
    try:
        assert wire.read(source) is None
    except PlateUnreadable:
        assert len(written) >= 4
    os.close(source)


def test_a_library_for_the_press_is_the_senders_own(tmp_path: Path, shelf_folder: Path) -> None:
    """What was chosen is laid out, whatever stands in its folder by now."""
    made(tmp_path / "own")
    page = ticket(design="own", holder=ODD["Greek"])
    at_work = Renderer(
        DesignLibrary((tmp_path,)),
        renderer(shelf_folder, page, library=DesignLibrary((tmp_path,))).shelf,
    )
    before = at_work.render(paper(page))
    made(tmp_path / "own", style="h1 { color: red }")
    at_work.press.close()
    at_work._stamps.clear()
    assert at_work.render(paper(page)) == before
