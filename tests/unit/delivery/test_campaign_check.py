"""A campaign whose design cannot be printed is refused before it is applied, and one that can
leaves its plate in the plate cache.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import msgspec
import pytest

from schemas import structs
from schemas.orders import CampaignSnapshot
from services.delivery import campaign_check, documents, rendering
from services.delivery.printing.errors import DesignUnknown, DesignUnusable, PlatesFolderUnusable
from services.delivery.printing.plate_cache import PlateCache, plate_key
from services.delivery.printing.renderer import Renderer, facts_of
from services.delivery.settings import DeliverySettings
from services.issuer.rules.campaigns import CampaignDefinition
from services.runtime.admin.cli_support import ExitCode, error_and_exit_code
from services.runtime.settings import read
from tests.support.deliveries import DRAW, issued
from tests.support.rendering import make_design

CONTENT = {
    "campaign_id": "spring",
    "name": "Spring Draw",
    "starts_on": date(2027, 3, 6),
    "starts_at": "19:30",
    "zone": "Europe/Dublin",
    "venue": "Example Hall, Dublin",
    "design": "door",
}
Ours = Callable[..., None]


@pytest.fixture
def ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ours:
    """The design `door`, this installation's own, with one change."""
    monkeypatch.setenv("STUBLINE_DELIVERY_DESIGNS_FOLDER", str(tmp_path / "designs"))
    monkeypatch.setenv("STUBLINE_DELIVERY_PLATES_FOLDER", str(tmp_path / "plates"))
    monkeypatch.setenv("STUBLINE_DELIVERY_FILES_URL", str(tmp_path / "files"))

    def make(**change: Any) -> None:
        make_design(tmp_path / "designs" / "door", **change)

    return make


def plates(tmp_path: Path) -> list[str]:
    return [path.stem for path in (tmp_path / "plates").glob("*.plate")]


def test_a_design_that_cannot_be_printed_is_refused_with_campaign_file_and_line(
    ours: Ours, tmp_path: Path
) -> None:
    ours(style=".holder { opacity: 0.5 }")
    with pytest.raises(
        DesignUnusable,
        match=r"^delivery-design-unusable: campaign spring: door/page.html:10: field `holder`",
    ):
        campaign_check.check_campaign(CONTENT)
    assert plates(tmp_path) == []


@pytest.mark.parametrize("design", ["no-such", "entry-a3", "../door", ""])
def test_a_design_that_is_not_there_is_unknown(design: str, ours: Ours) -> None:
    ours()
    with pytest.raises(DesignUnknown, match="campaign spring") as refused:
        campaign_check.check_campaign({**CONTENT, "design": design})
    assert error_and_exit_code(refused.value)[1] is ExitCode.UNKNOWN


def test_a_design_that_can_be_printed_is_compiled_for_the_tickets_to_come(
    ours: Ours, tmp_path: Path
) -> None:
    """The very plate that a sender asks for when the first ticket of the campaign comes."""
    ours()
    campaign_check.check_campaign(CONTENT)
    snapshot = msgspec.structs.replace(
        issued("shop:1", 1, "Active"), campaigns=(msgspec.structs.replace(DRAW, design="door"),)
    )
    page = documents.document(snapshot, snapshot.tickets).pages[0]
    renderer: Renderer = rendering.configured_renderer(read(DeliverySettings))
    variant = renderer.library.choose(page.design)
    assert plates(tmp_path) == [plate_key(variant, facts_of(page))]


def test_a_language_that_the_design_lacks_is_refused_with_those_that_it_has(
    ours: Ours, tmp_path: Path
) -> None:
    ours(manifest=('languages = ["en"]', 'languages = ["en", "pt"]'))
    with pytest.raises(
        DesignUnknown, match=r"campaign spring: door has no language `it`; it has en, pt\. "
    ) as refused:
        campaign_check.check_campaign({**CONTENT, "language": "it"})
    assert error_and_exit_code(refused.value)[1] is ExitCode.UNKNOWN
    assert plates(tmp_path) == []
    campaign_check.check_campaign({**CONTENT, "language": "pt-BR"})
    assert len(plates(tmp_path)) == 1


def test_the_plate_is_in_the_campaigns_language(ours: Ours, tmp_path: Path) -> None:
    ours(manifest=('languages = ["en"]', 'languages = ["en", "fr"]'))
    campaign_check.check_campaign({**CONTENT, "language": "fr"})
    renderer: Renderer = rendering.configured_renderer(read(DeliverySettings))
    campaign = msgspec.structs.replace(DRAW, design="door", language="fr")
    snapshot = msgspec.structs.replace(issued("shop:1", 1, "Active"), campaigns=(campaign,))
    page = documents.document(snapshot, snapshot.tickets, renderer.language).pages[0]
    assert plates(tmp_path) == [plate_key(renderer.library.choose("door", "fr"), facts_of(page))]


def test_what_the_issuer_publishes_is_what_orders_will_carry() -> None:
    definition = CampaignDefinition.model_validate(
        {
            "id": "spring",
            "name": "Spring Draw",
            "sources": ["shop"],
            "skus": ["RFL"],
            "date": "2027-03-06",
            "time": "19:30",
        }
    )
    snapshot = structs.convert(CampaignSnapshot, {"version": 1, **definition.snapshot()})
    assert (snapshot.campaign_id, snapshot.starts_on, snapshot.starts_at) == (
        "spring",
        date(2027, 3, 6),
        "19:30",
    )
    assert definition.snapshot().keys() == set(CampaignSnapshot.__struct_fields__) - {"version"}


@pytest.mark.parametrize("folder", ["relative/plates", "/proc/plates", "/dev/null/plates"])
def test_a_folder_for_plates_that_cannot_be_is_refused_by_its_name(
    folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STUBLINE_DELIVERY_PLATES_FOLDER", folder)
    with pytest.raises(PlatesFolderUnusable):
        rendering.configured_plate_cache(read(DeliverySettings))


def test_plates_are_kept_where_the_xdg_specification_has_caches(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", "relative, so none")
    assert (
        rendering.configured_plate_cache(DeliverySettings()).folder
        == tmp_path / ".cache" / "stubline" / "plates"
    )
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    made_there: PlateCache = rendering.configured_plate_cache(DeliverySettings())
    assert made_there.folder == tmp_path / "cache" / "stubline" / "plates"
    assert made_there.folder.stat().st_mode & 0o777 == 0o700


def test_a_design_that_compiles_and_cannot_be_used_is_refused_too(
    ours: Ours, tmp_path: Path
) -> None:
    """Stamped, looked at and scanned before a ticket is."""
    ours(style=".code { background: #000 }")
    with pytest.raises(
        DesignUnusable,
        match=r"campaign spring: door/page.html:11: .* a scanner does not read the code",
    ):
        campaign_check.check_campaign(CONTENT)
    assert plates(tmp_path) == []


def test_what_was_compared_once_is_not_compared_again(
    ours: Ours, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours()
    campaign_check.check_campaign(CONTENT)
    monkeypatch.setattr(campaign_check, "run_isolated", None)  # would be called
    campaign_check.check_campaign(CONTENT)
    with pytest.raises(TypeError):
        campaign_check.check_campaign({**CONTENT, "name": "Autumn Draw"})


def bundles(tmp_path: Path) -> list[str]:
    return [path.name for path in (tmp_path / "files").rglob("*") if path.is_file()]


def test_the_plate_is_in_the_blob_store_for_the_senders_and_for_other_operators(
    ours: Ours, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ours()
    campaign_check.check_campaign(CONTENT)
    assert bundles(tmp_path) == [f"{name}.bundle" for name in plates(tmp_path)]
    monkeypatch.setenv("STUBLINE_DELIVERY_PLATES_FOLDER", str(tmp_path / "other"))
    campaign_check.check_campaign(CONTENT)
    assert len(list((tmp_path / "other").glob("*.compared"))) == 1
    assert len(list((tmp_path / "plates").glob("*.qr"))) == 1
    assert list((tmp_path / "other").glob("*.qr")) == [], "nothing was compiled there"
    assert capsys.readouterr().err == ""


def test_a_plate_that_was_proven_before_the_store_was_there_is_published(
    ours: Ours, tmp_path: Path
) -> None:
    ours()
    campaign_check.check_campaign(CONTENT)
    shutil.rmtree(tmp_path / "files" / "plates")
    campaign_check.check_campaign(CONTENT)
    assert len(bundles(tmp_path)) == 1


@pytest.mark.parametrize("kind", ["unusable", "unavailable"])
def test_a_blob_store_that_cannot_be_reached_is_a_warning(
    kind: str,
    ours: Ours,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    ours()
    if kind == "unusable":
        monkeypatch.setenv("STUBLINE_DELIVERY_FILES_URL", "relative/files")
    else:
        (tmp_path / "files").mkdir()
        (tmp_path / "files" / "plates").write_text("in its place")
    campaign_check.check_campaign(CONTENT)
    assert len(plates(tmp_path)) == 1
    [line] = capsys.readouterr().err.splitlines()
    code = "delivery-files-url-unusable" if kind == "unusable" else "delivery-files-unavailable"
    assert line.startswith(f"warning: {code} ")
    assert line.endswith("A sender may have to compile the design at the campaign's first mail.")
