"""Laws of the librdkafka properties file: a property is allowed or refused, with a reason that says
what to do, and none ends the start with a traceback.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer
from hypothesis import given as drawn
from hypothesis import strategies as st

from services.runtime.kafka.client import consumer_settings, producer_settings
from services.runtime.kafka.cluster import KafkaCluster, configured
from services.runtime.kafka.properties import ALLOWED, PAGE, REFUSED, read_properties, refusal
from services.runtime.kafka.settings import KafkaSettings
from services.runtime.settings import EX_CONFIG, ConfigurationError
from tests.support.librdkafka import known_properties

SERVERS = "broker:9092"
ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> frozenset[str]:
    return known_properties(tmp_path_factory.mktemp("librdkafka"))


@pytest.fixture
def clients(tmp_path: Path) -> Callable[[str], None]:
    """Makes a consumer and a producer, as a worker does, with a text as properties file."""

    def settings_of(text: str) -> None:
        file = tmp_path / "kafka.properties"
        file.write_text(text)
        cluster = KafkaCluster(SERVERS, KafkaSettings(properties=file))
        quiet = {"log_level": 0}
        cluster.make(Producer, producer_settings(cluster, "client", 1_000) | quiet)
        cluster.make(Consumer, consumer_settings(cluster, "group", "client") | quiet).close()

    return settings_of


def test_every_property_that_the_library_knows_is_allowed_or_refused_with_a_reason(
    known: frozenset[str],
) -> None:
    assert len(known) > 180
    assert known >= ALLOWED | REFUSED.keys()
    assert not ALLOWED & REFUSED.keys()
    for name in sorted(known - ALLOWED):
        with pytest.raises(ValueError, match=f"line 1: {name} cannot be set here: ") as refused:
            read_properties(f"{name}=hunter2")
        text = str(refused.value)
        assert "\n" not in text
        assert "hunter2" not in text
        assert len(text) > len(f"line 1: {name} cannot be set here: ") + 15


@drawn(st.text(st.characters(codec="utf-8", exclude_characters="=#\n\r"), min_size=1))
def test_a_property_that_is_not_listed_is_refused_whatever_its_name(name: str) -> None:
    assert name in ALLOWED or refusal(name)


@pytest.mark.parametrize("value", ["0", "x", "\x00"])
def test_no_value_of_an_allowed_property_gives_anything_but_a_configuration_error(
    clients: Callable[[str], None], value: str
) -> None:
    for name in sorted(ALLOWED):
        with suppress(ConfigurationError):
            clients(f"{name}={value}\n")


def test_properties_that_contradict_a_clients_own_are_a_configuration_error(
    clients: Callable[[str], None],
) -> None:
    """Each is valid by itself; only the client that has both refuses them."""
    with pytest.raises(ConfigurationError, match=r"Kafka client: .*message\.timeout\.ms"):
        clients("linger.ms=60000")


@pytest.mark.parametrize(
    ("name", "instead"),
    [
        ("test.mock.num.brokers", "records"),
        ("test.mock.broker.rtt", "records"),
        ("topic.blacklist", "its topics would seem not to exist"),
        ("allow.auto.create.topics", "stubline migrate"),
        ("enable.ssl.certificate.verification", "STUBLINE_KAFKA_CA_FILE"),
        ("ssl.endpoint.identification.algorithm", "STUBLINE_KAFKA_CA_FILE"),
        ("plugin.library.paths", "code inside the client"),
        ("interceptors", "code inside the client"),
        ("delivery.report.only.error", "acknowledged"),
        ("error_cb", "the program sets its own"),
        ("on_delivery", "the program sets its own"),
        ("ssl.key.pem", "STUBLINE_KAFKA_KEY_FILE"),
        ("ssl.key.password", "STUBLINE_KAFKA_KEY_PASSWORD"),
        ("ssl.keystore.password", "STUBLINE_KAFKA_KEY_PASSWORD"),
        ("ssl.ca.pem", "STUBLINE_KAFKA_CA_FILE"),
        ("ssl.ca.location", "STUBLINE_KAFKA_SECURITY_PROTOCOL"),
        ("sasl.password", "STUBLINE_KAFKA_PASSWORD"),
        ("sasl.oauthbearer.client.secret", "STUBLINE_KAFKA_OAUTH_CLIENT_SECRET"),
        (
            "sasl.oauthbearer.assertion.private.key.passphrase",
            "STUBLINE_KAFKA_OAUTH_CLIENT_SECRET",
        ),
        ("sasl.kerberos.keytab", "STUBLINE_KAFKA_SASL_MECHANISM"),
        ("linger.msec", "did you mean linger.ms?"),
    ],
)
def test_a_process_does_not_start_with_it_and_prints_in_one_line_what_to_do(
    name: str,
    instead: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = tmp_path / "kafka.properties"
    file.write_text(f"# ours\n{name}=hunter2\n")
    monkeypatch.setenv("STUBLINE_KAFKA_PROPERTIES", str(file))
    with pytest.raises(SystemExit) as ended:
        configured(SERVERS)
    assert ended.value.code == EX_CONFIG
    (line,) = capsys.readouterr().err.splitlines()
    assert f"line 2: {name} cannot be set here: " in line
    assert instead in line
    assert "hunter2" not in line


def test_what_a_worker_sets_is_refused_or_only_a_matter_of_speed() -> None:
    """A setting that is added to a client is either protected or listed here."""
    speed = {
        "auto.commit.interval.ms",
        "fetch.wait.max.ms",
        "queued.max.messages.kbytes",
        "fetch.max.bytes",
        "fetch.queue.backoff.ms",
        "topic.metadata.refresh.interval.ms",
        "linger.ms",
    }
    own = consumer_settings(SERVERS, "g", "c") | producer_settings(SERVERS, "c", 10_000)
    assert {name for name in own if refusal(name) is None} == speed


def test_the_page_lists_what_may_be_set_and_nothing_else() -> None:
    _, _, below = (ROOT / PAGE).read_text("utf-8").partition("These may be set:\n\n")
    table, _, _ = below.partition("\n\n")
    listed = re.findall(r"`([^`]+)`", table)
    assert sorted(listed) == sorted(ALLOWED)


def test_properties_come_after_what_is_tuned_and_before_how_brokers_are_reached(
    tmp_path: Path, clients: Callable[[str], None]
) -> None:
    text = "# tuned\n\nlinger.ms = 20\nclient.rack=eu-1a\nlinger.ms=30\n"
    clients(text)
    file = tmp_path / "kafka.properties"
    cluster = KafkaCluster(SERVERS, KafkaSettings(properties=file))
    settings = producer_settings(cluster, "client", 10_000)
    assert (settings["linger.ms"], settings["client.rack"]) == ("30", "eu-1a")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("linger.ms", "line 1 is not of the form name=value"),
        ("linger.ms=soon", "Invalid value"),
    ],
)
def test_a_line_that_the_client_does_not_take_stops_the_start(
    clients: Callable[[str], None], text: str, problem: str
) -> None:
    with pytest.raises(ConfigurationError, match=problem):
        clients(text)
