"""Laws of the settings: a name that nobody knows stops the start, and an error never quotes a
value.
"""

from __future__ import annotations

import pytest
from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from services.runtime import settings
from services.runtime.settings import ConfigurationError, LaneSettings, Servers


class Toy(LaneSettings):
    model_config = SettingsConfigDict(env_prefix="STUBLINE_TOY_")

    colours: list[str] = Field(default=["red"], description="For the test.")


def refusal(kind: type[BaseSettings]) -> str:
    with pytest.raises(ConfigurationError) as raised:
        settings.read(kind)
    return str(raised.value)


def test_without_an_environment_the_defaults_hold() -> None:
    toy = settings.read(Toy)
    assert (toy.batch_records_max, toy.batch_wait_ms, toy.tick_interval_ms) == (1_000, 20, 1_000)


def test_a_setting_is_read_from_its_prefix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STUBLINE_TOY_BATCH_RECORDS_MAX", "7")
    monkeypatch.setenv("STUBLINE_OTHER_BATCH_RECORDS_MAX", "8")
    monkeypatch.setenv("BATCH_RECORDS_MAX", "9")
    assert settings.read(Toy).batch_records_max == 7


def test_an_unknown_name_is_refused_and_the_nearest_is_offered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("STUBLINE_TOY_BATCH_RECORD_MAX", "7")
    assert refusal(Toy) == (
        "STUBLINE_TOY_BATCH_RECORD_MAX is not a setting; did you mean STUBLINE_TOY_BATCH_RECORDS_MAX?"
    )


def test_all_that_is_wrong_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STUBLINE_TOY_NONSENSE_AT_ALL", "7")
    monkeypatch.setenv("STUBLINE_TOY_BATCH_WAIT_MS", "0")
    monkeypatch.setenv("STUBLINE_TOY_LOCK_TIMEOUT_MS", "soon")
    told = refusal(Toy)
    assert [name in told for name in ("NONSENSE_AT_ALL", "BATCH_WAIT_MS", "LOCK_TIMEOUT_MS")] == [
        True
    ] * 3


def test_a_wait_inside_a_transaction_ends_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STUBLINE_TOY_LOCK_TIMEOUT_MS", "3000")
    assert "lock_timeout_ms must be below transaction_timeout_ms" in refusal(Toy)


def test_a_list_that_is_no_json_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STUBLINE_TOY_COLOURS", "red,blue")
    assert "colours" in refusal(Toy)


def test_a_password_is_never_quoted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://me:hunter2@db/stubline")
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "")
    assert "hunter2" not in refusal(Servers)
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "broker:9092")
    assert "hunter2" not in repr(settings.read(Servers))


def test_a_wrong_configuration_ends_the_process_with_78_and_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("DATABASE_URL", raising=False)
    monkeypatch.delenv("KAFKA_BOOTSTRAP_SERVERS", raising=False)
    with pytest.raises(SystemExit) as ended:
        settings.load(Servers)
    assert ended.value.code == 78
    assert (
        capsys.readouterr().err
        == "configuration: KAFKA_BOOTSTRAP_SERVERS is not set; DATABASE_URL is not set\n"
    )


def test_every_setting_has_a_unit_a_bound_and_a_reason() -> None:
    units = (
        "_ms",
        "_bytes_max",
        "_records_max",
        "_letters_max",
        "_records",
        "_seconds_max",
        "_share",
        "_port",
        "_host",
        "_level",
    )
    for name, field in LaneSettings.model_fields.items():
        assert name.endswith(units), name
        assert field.description, name
        assert field.metadata or field.annotation is str, name
