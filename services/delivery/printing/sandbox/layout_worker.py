"""The press: sets whole what cannot be stamped, in a process of its own that stays for the next
text.

Importing WeasyPrint takes most of a second, so it is not a process a text; Pango and its kin never
give all memory back, so it is not one for ever. It starts with the first odd text: who never meets
one pays nothing.

Crash: the press holds nothing. Killed at any point, the text is set again by the next one: the same
bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from services.delivery.printing import plates
from services.delivery.printing.errors import PlatesFolderUnusable, PlateUnreadable, TextUnprintable
from services.delivery.printing.plates import Plate
from services.delivery.printing.sandbox import wire
from services.delivery.printing.sandbox.limits import (
    SECONDS_MAX,
    CompileTask,
    SandboxEnded,
    SandboxLimits,
    SandboxProcess,
)
from services.delivery.printing.sandbox.wire import WireMessage

JOBS_MAX = 2_000
RESIDENT_BYTES_MAX = 512 * 2**20
LAYOUT_LIMITS = SandboxLimits(wait_s_max=2.0 * SECONDS_MAX)  # time for a machine that is busy
TRIES_MAX = 2  # a process may end for reasons of its machine


@dataclass
class LayoutWorker:
    """One process's. Not shared between threads. Raises TextUnprintable, for the order alone, and
    LayoutAway.
    """

    ceiling: SandboxLimits = LAYOUT_LIMITS
    jobs_max: int = JOBS_MAX
    resident_bytes_max: int = RESIDENT_BYTES_MAX
    _apart: SandboxProcess | None = field(init=False, default=None)
    _jobs: int = field(init=False, default=0)

    @property
    def pid(self) -> int | None:
        """Of the process, while there is one."""
        return None if self._apart is None else self._apart.pid

    def whole(self, task: CompileTask, plate: Plate, odd: Mapping[str, str]) -> Plate:
        """The task's plate with these texts set in it."""
        for _ in range(TRIES_MAX):
            made = self._tried(task, plate, odd)
            if all(task.plate_cache.kit(face) is not None for face in made.faces):
                return made
            self.close()  # it remembers a face that somebody has taken off the shelf
        raise PlateUnreadable("a face is gone as soon as it was made")

    def close(self) -> None:
        if self._apart is not None:
            self._apart.close()
        self._apart, self._jobs = None, 0

    def _tried(self, task: CompileTask, plate: Plate, odd: Mapping[str, str]) -> Plate:
        where = f"{task.variant.design.name}: {', '.join(sorted(odd))}"
        for left in reversed(range(TRIES_MAX)):
            try:
                said = self._asked(task, plate, odd)
            except SandboxEnded as ended:
                self.close()
                if left and not ended.is_used_up:
                    continue
                cause = (
                    self.ceiling.told()
                    if ended.is_ceiling
                    else f"WeasyPrint ended on it: {ended.cause}"
                )
                raise TextUnprintable(f"{where}: {cause}") from None
            if said.head["said"] == "plate":
                return plates.from_bytes(said.blobs[0])
            if said.head["said"] == "away":
                raise PlatesFolderUnusable(said.head["cause"])
            raise TextUnprintable(f"{where}: {said.head['cause']}")
        raise AssertionError("the last try answers or raises")

    def _asked(self, task: CompileTask, plate: Plate, odd: Mapping[str, str]) -> WireMessage:
        """The design goes over the pipe once, and not with each text."""
        if self._apart is None:
            self._apart = SandboxProcess(self.ceiling)
        job = {
            "do": "whole",
            "shelf": str(task.plate_cache.folder),
            "key": task.key,
            "odd": dict(odd),
        }
        said = self._apart.ask(WireMessage(job))
        if said.head["said"] == "unknown":
            sheet = wire.encode_request(task.variant, task.facts)
            said = self._apart.ask(
                WireMessage(sheet.head | job, [*sheet.blobs, plates.to_bytes(plate)])
            )
        self._jobs += 1
        if self._jobs >= self.jobs_max or said.head.get("resident", 0) > self.resident_bytes_max:
            self.close()
        return said
