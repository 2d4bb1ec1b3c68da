"""A design that eats time or memory is ended in a process of its own, and its author is told so;
nobody else is harmed.
"""

from __future__ import annotations

import resource
import time
from pathlib import Path

import pytest

from services.delivery.printing.design.library import Design, DesignVariant
from services.delivery.printing.errors import DesignUnusable
from services.delivery.printing.plate_cache import PlateCache, plate_key
from services.delivery.printing.sandbox.limits import START_S_MAX, CompileTask, compile_in_sandbox
from tests.support.rendering import SPRING, make_design

H1 = "<h1>{{ campaign.name }}</h1>"
MIB = 2**20


def task(design: Design, folder: Path) -> CompileTask:
    variant = DesignVariant(design, "a5", "en")
    return CompileTask(variant, SPRING, PlateCache(folder), plate_key(variant, SPRING))


def refused(design: Design, folder: Path, *, seconds_max: int = 20, mib_max: int = 1_024) -> str:
    with pytest.raises(DesignUnusable) as refusal:
        compile_in_sandbox(task(design, folder), seconds_max=seconds_max, bytes_max=mib_max * MIB)
    assert not list(folder.glob("*.plate")), "half a plate is none"
    return refusal.value.cause


def test_a_refusal_in_the_other_process_is_raised_as_it_is_and_our_own_limits_stay(
    tmp_path: Path,
) -> None:
    kinds = (resource.RLIMIT_AS, resource.RLIMIT_CPU)
    before = [resource.getrlimit(kind) for kind in kinds]
    design = make_design(tmp_path / "made", page=(H1, "{{ nope }}"))
    assert refused(design, tmp_path / "shelf", mib_max=600).startswith(
        "made/page.html:8: 'nope' is undefined; a page sees"
    )
    assert [resource.getrlimit(kind) for kind in kinds] == before


def test_a_loop_without_end_is_ended(tmp_path: Path) -> None:
    loops = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
    cause = refused(
        make_design(tmp_path / "made", page=(H1, loops)), tmp_path / "shelf", seconds_max=2
    )
    assert cause.startswith("made: needs more than 2 s or 1,024 MiB")
    assert "leave out what is large or nested deeply" in cause


def test_a_page_of_gigabytes_is_ended(tmp_path: Path) -> None:
    design = make_design(tmp_path / "made", page=(H1, "{{ 'x' * 1500000000 }}"))
    cause = refused(design, tmp_path / "shelf", seconds_max=60, mib_max=512)
    assert cause.startswith("made: needs more than 60 s or 512 MiB")


BOMBS = {
    "boxes in boxes": "<div>" * 3_000 + "</div>" * 3_000,
    "a huge grid": (
        "<div style='display: grid; grid-template-columns: repeat(30000, 1fr)'><i>x</i></div>"
    ),
    "numbers without end": "{{ 9 ** (9 ** 9) }}",
    "SVG that doubles": "<svg xmlns='http://www.w3.org/2000/svg'><g id='g0'><path d='M0 0h1'/></g>"
    + "".join(
        f"<g id='g{at}'><use href='#g{at - 1}'/><use href='#g{at - 1}'/></g>" for at in range(1, 30)
    )
    + "</svg>",
    "rules": "<style>"
    + "".join(f".r{at} > .s{at} {{ color: red }}\n" for at in range(200_000))
    + "</style>",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_ends_as_a_plate_or_as_a_refusal_within_the_ceiling(
    name: str, tmp_path: Path
) -> None:
    """One or the other, whatever WeasyPrint makes of it; a refusal names the design."""
    work, begun = (
        task(make_design(tmp_path / "made", page=(H1, BOMBS[name])), tmp_path / "shelf"),
        time.monotonic(),
    )
    cause = ""
    try:
        compile_in_sandbox(work, seconds_max=2, bytes_max=600 * MIB)
    except DesignUnusable as refusal:
        cause = refusal.cause
    assert (work.plate_cache.plate(work.key) is None) == cause.startswith("made")
    assert (
        time.monotonic() - begun < START_S_MAX + 30
    )  # it starts, and is ended three seconds later
