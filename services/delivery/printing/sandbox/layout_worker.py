"""The layout worker: sets texts that cannot be stamped, in a process of its own that stays for the
next text.

Importing WeasyPrint takes most of a second, so there is not a process per text. Pango and the
libraries below it never return all memory, so the process is renewed from time to time. It starts
with the first unstampable text: an installation without such texts does not have it.

Crash: the worker holds nothing. If it is killed, the next one sets the text again, with the same
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

REQUESTS_MAX = 2_000
RESIDENT_BYTES_MAX = 512 * 2**20
LAYOUT_LIMITS = SandboxLimits(wait_s_max=2.0 * SECONDS_MAX)  # time for a machine that is busy
TRIES_MAX = 2  # a process may end for reasons of its machine


@dataclass
class LayoutWorker:
    """One process's worker. Not shared between threads. Raises TextUnprintable, for the order
    alone, and LayoutUnavailable.
    """

    limits: SandboxLimits = LAYOUT_LIMITS
    requests_max: int = REQUESTS_MAX
    resident_bytes_max: int = RESIDENT_BYTES_MAX
    _process: SandboxProcess | None = field(init=False, default=None)
    _requests: int = field(init=False, default=0)

    @property
    def pid(self) -> int | None:
        """The process's id, while there is one."""
        return None if self._process is None else self._process.pid

    def set_texts(self, task: CompileTask, plate: Plate, unstampable: Mapping[str, str]) -> Plate:
        """Return the task's plate with these texts set in it."""
        for _ in range(TRIES_MAX):
            result = self._attempt(task, plate, unstampable)
            if all(task.plate_cache.subset(face) is not None for face in result.faces):
                return result
            self.close()  # it has cached a face that was removed from the plate cache
        raise PlateUnreadable("a face was removed as soon as it was compiled")

    def close(self) -> None:
        if self._process is not None:
            self._process.close()
        self._process, self._requests = None, 0

    def _attempt(self, task: CompileTask, plate: Plate, unstampable: Mapping[str, str]) -> Plate:
        where = f"{task.variant.design.name}: {', '.join(sorted(unstampable))}"
        for left in reversed(range(TRIES_MAX)):
            try:
                reply = self._request(task, plate, unstampable)
            except SandboxEnded as ended:
                self.close()
                if left and not ended.is_cpu_exhausted:
                    continue
                cause = (
                    self.limits.describe()
                    if ended.is_limit
                    else f"WeasyPrint ended on it: {ended.cause}"
                )
                raise TextUnprintable(f"{where}: {cause}") from None
            if reply.head["status"] == "plate":
                return plates.from_bytes(reply.blobs[0])
            if reply.head["status"] == "unavailable":
                raise PlatesFolderUnusable(reply.head["cause"])
            raise TextUnprintable(f"{where}: {reply.head['cause']}")
        raise AssertionError("the last try returns or raises")

    def _request(
        self, task: CompileTask, plate: Plate, unstampable: Mapping[str, str]
    ) -> WireMessage:
        """Send the design with the first request of a template, and not with each text."""
        if self._process is None:
            self._process = SandboxProcess(self.limits)
        request = {
            "do": "set_texts",
            "plate_cache": str(task.plate_cache.folder),
            "key": task.key,
            "unstampable": dict(unstampable),
        }
        reply = self._process.request(WireMessage(request))
        if reply.head["status"] == "unknown":
            design = wire.encode_request(task.variant, task.facts)
            reply = self._process.request(
                WireMessage(design.head | request, [*design.blobs, plates.to_bytes(plate)])
            )
        self._requests += 1
        if (
            self._requests >= self.requests_max
            or reply.head.get("resident", 0) > self.resident_bytes_max
        ):
            self.close()
        return reply
