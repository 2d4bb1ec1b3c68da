"""Schema drift as incidents, through the real commands on a real database: ten thousand dead
letters are one line.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any
from uuid import uuid4

import pytest

from schemas.callbacks import TOPIC
from services.console import cli
from services.ingest import vendors, worker
from services.ingest.admin.incidents import (
    DEAD_LETTERS_OF_PART,
    GROUP,
    KEPT_OF_PART,
    IncidentCommands,
    IncidentQueries,
    ResolutionMethod,
    ResolutionRequest,
)
from services.ingest.retention import purge
from services.ingest.rules import facts
from services.ingest.rules.facts import DriftNotice, ParsedCallback
from services.ingest.rules.incidents import fingerprint
from services.ingest.store import IngestStore
from services.runtime.admin.commands import OperatorCommand
from services.runtime.postgres import connection
from services.runtime.postgres.lane_store import PostgresLaneStore, Session
from services.runtime.records import Effect, Outcome, Record, pack_headers
from tests.support.callbacks import record, woo_order
from tests.support.cli_output import CliOutput

ROWS_OF_STATEMENT = 500
CAUSE = "line_items.{}.quantity: Field required"
HOSTILE = "[bold]boom[/bold]\x1b[2J\x1b]0;x\x07\u202egro"
ADD = """
insert into runtime.dead_letters (
    consumer_group, topic, topic_id, partition, "offset", key, value, value_sha256, headers,
    stage, code, text, code_version
)
select %(group)s, %(topic)s, %(topic_id)s, 0, n, %(key)s, %(value)s, sha256(%(value)s), %(headers)s,
    'parse', %(code)s, replace(%(text)s, '{}', (n %% 500)::text), '1'
from generate_series(%(first)s::int, %(last)s::int) as n
"""


class IncidentScene:
    """A database with its evidence, and the command `stubline`."""

    def __init__(self, session: Session, capsys: pytest.CaptureFixture[str]) -> None:
        self.session, self._capsys = session, capsys

    def __call__(self, *arguments: object) -> CliOutput:
        self._capsys.readouterr()
        return CliOutput(
            cli.run([str(argument) for argument in arguments]), *self._capsys.readouterr()
        )

    def dead_letter(
        self, times: int = 1, *, text: str = CAUSE, like: Record | None = None, **other: object
    ) -> None:
        """Write so many dead letters of one cause; `{}` is another number in each. No statement
        writes more than a busy machine can write within the session's transaction timeout.
        """
        like = like or record(woo_order())
        about = {
            "group": GROUP,
            "topic": TOPIC,
            "topic_id": uuid4().hex,
            "code": "ingest-callback-unreadable",
        }
        origin = {"key": like.key, "value": like.value, "headers": pack_headers(like.headers)}
        for first in range(1, times + 1, ROWS_OF_STATEMENT):
            rows = {"first": first, "last": min(times, first + ROWS_OF_STATEMENT - 1)}
            self.session.execute(ADD.encode(), {**about, **origin, "text": text, **rows, **other})

    def drift_notice(self, *parsed: ParsedCallback) -> list[Outcome]:
        with self.session.transaction():
            return worker.handle(parsed, self.session)

    def incidents(self, *options: str) -> list[dict[str, Any]]:
        answer = self("incidents", "list", "--json", *options)
        assert answer.code == 0, answer.err
        return list(answer.json)

    def only(self, *options: str) -> dict[str, Any]:
        (incident,) = self.incidents(*options)
        return incident

    def resolve(self, incident: Mapping[str, Any], *how: object) -> CliOutput:
        return self("incidents", "resolve", incident["id"], *how, "--actor", "ada", "--json")

    def rows(self, statement: str) -> list[Any]:
        return self.session.execute(statement.encode()).fetchall()

    def states(self) -> dict[str, int]:
        return dict(self.rows("select state, count(*) from runtime.dead_letters group by state"))


@pytest.fixture
def scene(
    database_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[IncidentScene]:
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")  # no dead letter is asked for
    monkeypatch.setenv("COLUMNS", "200")
    with connection.connect(database_url, name="incidents test") as session:
        yield IncidentScene(session, capsys)


def unknown(
    number: int = 1, *, source: str = "pay", word: str = "charge.moon", is_kept: bool = True
) -> ParsedCallback:
    """Return a callback of a type that this release does not know."""
    callback = record({"n": number}, source=source, order=f"?{number}", offset=number)
    drift_notice = DriftNotice(source, "unknown-type", word, callback.value or b"", is_kept=is_kept)
    parsed = facts.parsed_callback(f"{source}:evt_{number}", None, drift=(drift_notice,))
    return vendors.with_origin(parsed, callback)


def test_ten_thousand_dead_letters_of_one_cause_are_one_incident(scene: IncidentScene) -> None:
    scene.dead_letter(10_000)
    incident = scene.only()
    assert (incident["count"], incident["waiting"], incident["state"]) == (10_000, 10_000, "open")
    assert (incident["source"], incident["kind"]) == ("shop", "ingest-callback-unreadable")
    assert incident["cause"] == "line_items.#.quantity: Field required"
    assert incident["first_at"] <= incident["last_at"]
    shown = scene("incidents", "show", incident["id"])
    assert f"stubline dead show {incident['example']}" in shown.out
    assert '"number": "727"' in shown.out
    assert f"stubline incidents resolve {incident['id']} --replay" in shown.out
    assert "deploy a release that reads it" in shown.out
    assert scene("dead", "show", incident["example"]).code == 0
    assert (
        scene("incidents", "show", incident["id"], "--raw").out.encode()
        == record(woo_order()).value
    )


def test_two_sources_two_causes_and_two_codes_are_not_one(scene: IncidentScene) -> None:
    scene.dead_letter(3)
    scene.dead_letter(2, like=record(woo_order(), source="other"))
    scene.dead_letter(4, text="total: Field required")
    scene.dead_letter(1, code="ingest-amount-unreadable")
    scene.dead_letter(9, group="stubline.issuer")
    assert [incident["count"] for incident in scene.incidents()] == [4, 3, 2, 1]
    assert [incident["count"] for incident in scene.incidents("--source", "other")] == [2]


def test_a_source_is_named_by_the_header_and_not_by_the_shop_it_serves(
    scene: IncidentScene,
) -> None:
    gateway = record(woo_order(), source="stripe-eu", orders_of="shop")
    assert (gateway.key or b"").startswith(b"shop:")
    scene.dead_letter(1, like=gateway)
    scene.dead_letter(
        1, like=gateway._replace(headers=[], key=b"stripe-eu:1")
    )  # a structured event: only the key names the source
    scene.dead_letter(
        1, like=gateway._replace(headers=[("ce_source", b"\xff\x00"), ("\xe9", None)], key=None)
    )
    assert sorted((incident["source"], incident["count"]) for incident in scene.incidents()) == [
        ("?", 1),
        ("stripe-eu", 2),
    ]


@pytest.mark.parametrize(
    "cause",
    [
        "",
        "a.10.b: x; a.2.b: x; a: y; and 3 more",
        "; ;  ; 1",
        "é1; Z; a; A; _; 😀2; \uffee",
        "ce_source is '/x\\y'\n 7\n",
        "; and 5 more",
        "٣ are digits too, 3",
        "x1 " * 400,
    ],
)
def test_the_database_folds_a_cause_as_the_rules_do(scene: IncidentScene, cause: str) -> None:
    ((folded,),) = scene.session.execute(b"select runtime.cause_of(%s)", (cause,)).fetchall()
    assert folded == fingerprint(cause)


def test_a_replay_replays_all_dead_letters_once_for_a_command_id(scene: IncidentScene) -> None:
    scene.dead_letter(6_000)  # more than a part
    scene.dead_letter(5, text="total: Field required")
    incident, command = scene.incidents()[0], uuid4()
    answer = scene.resolve(incident, "--replay", "--command-id", command)
    assert (answer.code, answer.json["concerned"], answer.json["already_done"]) == (0, 6_000, False)
    assert scene.states() == {"requested": 6_000, "open": 5}
    audits = scene.rows("select actor, what, details->'arguments'->>'incident' from runtime.audit")
    assert audits == [("ada", "incidents resolve", incident["id"])] * 2
    scene.session.execute(
        b"update runtime.dead_letters set state = 'open', updated_at = now() where state = "
        b"'requested'"
    )
    repeated = scene.resolve(incident, "--replay", "--command-id", command)
    assert (repeated.json["concerned"], repeated.json["already_done"]) == (6_000, True)
    assert scene.states() == {"open": 6_005}
    assert scene.resolve(incident, "--discard", "--reason", "no", "--command-id", command).code == 1


def test_a_replay_that_was_cut_off_goes_on_and_leaves_what_failed_since(
    scene: IncidentScene,
) -> None:
    scene.dead_letter(DEAD_LETTERS_OF_PART + 10)
    row, command = scene.only(), uuid4()
    incident = IncidentQueries(scene.session).incident(row["id"])
    commands = IncidentCommands(scene.session, OperatorCommand("ada", command))
    assert commands.resolve_part(
        ResolutionRequest(incident.id, ResolutionMethod.REPLAY, None), incident, 0, None
    ).details["goes_on"]
    scene.session.execute(
        b"""
        update runtime.dead_letters set state = 'open', updated_at = now()
        where id in (select id from runtime.dead_letters where state = 'requested' limit 3)
        """
    )
    answer = scene.resolve(row, "--replay", "--command-id", command)
    assert (answer.json["concerned"], answer.json["already_done"]) == (
        DEAD_LETTERS_OF_PART + 10,
        False,
    )
    assert scene.states() == {"requested": DEAD_LETTERS_OF_PART + 7, "open": 3}


def test_replayed_dead_letters_are_an_incident_until_they_have_ended(scene: IncidentScene) -> None:
    scene.dead_letter(2)
    scene.resolve(scene.only(), "--replay")
    incident = scene.only()
    assert (incident["count"], incident["waiting"], incident["replaying"]) == (2, 0, 2)
    scene.session.execute(b"update runtime.dead_letters set state = 'resolved'")
    assert scene.incidents() == []
    assert scene.only("--state", "resolved")["state"] == "resolved"
    scene.dead_letter(1)
    assert (scene.only()["count"], scene.only()["waiting"]) == (3, 1)


def test_a_discard_closes_what_waits_and_keeps_the_reason(scene: IncidentScene) -> None:
    scene.dead_letter(3)
    assert scene.resolve(scene.only(), "--discard").code == 2
    assert (
        scene.resolve(scene.only(), "--discard", "--reason", "test traffic").json["concerned"] == 3
    )
    assert scene.rows("select distinct state, reason, actor from runtime.dead_letters") == [
        ("discarded", "test traffic", "ada")
    ]
    assert scene.incidents() == []


def test_without_a_choice_it_offers_and_changes_nothing(scene: IncidentScene) -> None:
    scene.dead_letter(7)
    incident = scene.only()
    answer = scene("incidents", "resolve", incident["id"])
    assert answer.code == 0
    assert f"stubline incidents resolve {incident['id']} --replay" in answer.out
    assert "replays the 7 open dead letters" in answer.out
    assert scene.states() == {"open": 7}
    assert scene.rows("select count(*) from runtime.audit") == [(0,)]
    assert scene.resolve(incident, "--replay", "--discard").code == 2


def test_what_is_missing_or_malformed_is_refused_with_its_code(scene: IncidentScene) -> None:
    answer = scene("incidents", "show", "0123456789ab")
    assert (answer.code, "incident-unknown" in answer.err) == (3, True)
    assert scene("incidents", "resolve", "0123456789ab", "--replay").code == 3
    scene.dead_letter(1)
    refused = scene.resolve(scene.only(), "--seen", "--reason", "fine")
    assert (refused.code, json.loads(refused.err)["error"]["code"]) == (
        1,
        "incident-choice-refused",
    )
    assert scene.rows("select count(*) from runtime.audit") == [(0,)]


def test_unknown_words_are_added_up_and_a_later_one_opens_them_again(
    scene: IncidentScene,
) -> None:
    for number in range(3):
        scene.drift_notice(*[unknown(10 * number + n, word=f"charge.v{n}") for n in range(4)])
    scene.session.execute(
        b"""
        insert into ingest.drift_notices
        select source, kind, cause, slot + 20, 5, first_at, last_at, 'other', example
        from ingest.drift_notices
        """
    )
    incident = scene.only()
    assert (incident["count"], incident["kind"], incident["cause"]) == (
        12 + 20,
        "unknown-type",
        "charge.v#",
    )
    shown = scene("incidents", "show", incident["id"], "--json").json
    assert [row["words"] for row in shown["words"]] == [f"charge.v{n}" for n in range(4)]
    assert shown["kept"] == 12
    command = uuid4()
    assert scene.resolve(incident, "--seen", "--reason", "known", "--command-id", command).code == 0
    assert scene.incidents() == []
    assert scene.rows("select count(*) from ingest.kept_callbacks") == [(12,)]
    scene.drift_notice(unknown(99, word="charge.v1"))
    assert scene.only()["count"] == 33
    assert scene.resolve(incident, "--seen", "--reason", "known", "--command-id", command).json[
        "already_done"
    ]
    assert scene.only()["state"] == "open"


@pytest.mark.parametrize(
    ("kind", "what"),
    [
        ("webhook-disabled", "Enable it again"),
        ("poll-too-large", "smaller"),
        ("poll-warning", "left out"),
        ("order-missing", "word"),
        ("missing-field", "with a default"),
        ("refund-unnamed", "unknown here"),
        ("test-mode", "no release will"),
        ("unusable-number", "without these chosen numbers"),
        ("unusable-recipient", "the buyer holds"),
    ],
)
def test_drift_that_no_release_will_know_has_its_own_next_step(
    scene: IncidentScene, kind: str, what: str
) -> None:
    parsed = DriftNotice("shop", kind, "what drifted")
    with scene.session.transaction():
        IngestStore(scene.session).add_drift_notices({parsed: (1, "shop:1")})
    step = scene("incidents", "show", scene.only()["id"], "--json").json["next_step"]
    assert what in step
    assert "nothing is lost" not in step


def test_kept_callbacks_are_replayed_whole_and_kept_once_more_if_still_unknown(
    scene: IncidentScene,
) -> None:
    scene.drift_notice(*[unknown(n) for n in range(KEPT_OF_PART + 20)])
    incident, command = scene.only(), uuid4()
    answer = scene.resolve(incident, "--replay", "--command-id", command)
    assert answer.json["concerned"] == KEPT_OF_PART + 20
    assert scene.states() == {"requested": KEPT_OF_PART + 20}
    assert scene.rows(
        "select (select count(*) from ingest.kept_callbacks), (select count(*) from "
        "ingest.callbacks)"
    ) == [(0, 0)]
    assert scene.resolve(incident, "--replay", "--command-id", command).json["already_done"]
    assert scene.states() == {"requested": KEPT_OF_PART + 20}
    replays = replayed(scene.session)
    original = record({"n": 7}, source="pay", order="?7", offset=7)
    assert replays[7]._replace(dead_letter_id=None) == original._replace(
        timestamp_ms=replays[7].timestamp_ms
    )
    assert [type(outcome) for outcome in scene.drift_notice(unknown(7))] == [
        Effect
    ]  # as the worker would process it again
    assert scene.rows("select key from ingest.kept_callbacks") == [("pay:evt_7",)]
    assert "unknown-type" in [incident["kind"] for incident in scene.incidents()]
    scene.session.execute(b"update runtime.dead_letters set state = 'resolved'")
    assert scene.resolve(incident, "--replay").json["concerned"] == 1
    stored = scene.rows(
        """select "offset", attempts, code from runtime.dead_letters where state = 'requested'"""
    )
    assert stored == [(7, 2, "ingest-callback-kept")]  # the same dead letter: it is the same record


def replayed(session: Session) -> list[Record]:
    with PostgresLaneStore(GROUP, "test", "1", lambda: session).transaction() as transaction:
        replays = transaction.take_replay_requests(1_000, 10**8)
        transaction.commit()
    return sorted((row.record for row in replays), key=lambda row: row.offset)


def test_kept_callbacks_go_after_their_days_and_not_before(scene: IncidentScene) -> None:
    scene.drift_notice(*[unknown(n) for n in range(4)])
    scene.session.execute(
        b"update ingest.kept_callbacks set kept_at = now() - interval '91 days' where key in "
        b"('pay:evt_1', "
        b"'pay:evt_3')"
    )
    assert [purge(scene.session, 90), purge(scene.session, 90)] == [2, 0]
    assert scene.rows("select key from ingest.kept_callbacks order by key") == [
        ("pay:evt_0",),
        ("pay:evt_2",),
    ]


def test_keys_with_conflicting_content_are_one_incident_of_their_source(
    scene: IncidentScene,
) -> None:
    def receive(order: int, total: str, source: str = "shop") -> None:
        body = woo_order(id=order, status="completed", total=total)
        scene.drift_notice(vendors.parse(record(body, order=str(order), source=source)))

    for order in (1, 2):
        receive(order, "15.00")
        receive(order, "16.00")
    receive(3, "15.00")
    receive(1, "15.00", "other")
    incident = scene.only()
    assert (incident["kind"], incident["source"], incident["count"], incident["waiting"]) == (
        "conflicting-content",
        "shop",
        2,
        0,
    )
    assert "stubline orders show shop:2" in scene("incidents", "show", incident["id"]).out
    assert scene.resolve(incident, "--seen", "--reason", "their plugin").code == 0
    assert scene.incidents() == []
    receive(3, "17.00")
    assert scene.only()["count"] == 3


@pytest.mark.parametrize("command", ["list", "show", "resolve"])
def test_hostile_text_is_made_harmless(scene: IncidentScene, command: str) -> None:
    bad = record(HOSTILE.encode(), order=HOSTILE)
    scene.dead_letter(1, like=bad._replace(headers=[("ce_source", HOSTILE.encode())]), text=HOSTILE)
    scene.drift_notice(unknown(1, word="x[red]\x1b[31m\u202e"))
    for incident in scene.incidents():
        answer = scene("incidents", command, *([incident["id"]] if command != "list" else []))
        assert answer.code == 0
        assert not {"\x1b", "\x07", "\u202e"} & set(answer.out)
        assert "[bold]boom[/bold]" in answer.out or "x[red]" in answer.out


def test_the_roles_of_all_services_may_dead_letter(scene: IncidentScene) -> None:
    """The columns by which dead letters are grouped are computed with the rights of the service
    that writes them.
    """
    for service in ("ingest", "approval", "issuer", "delivery"):
        scene.session.execute(f"set role stubline_{service}".encode())
        scene.dead_letter(1, group=f"stubline.{service}")
        scene.session.execute(b"reset role")
    scene.session.execute(b"set role stubline_ingest")
    assert IncidentQueries(scene.session).incidents()
    scene.session.execute(b"reset role")


def test_a_dead_letter_with_the_longest_cause_and_many_headers_is_stored(
    scene: IncidentScene,
) -> None:
    """The columns by which dead letters are grouped are indexed, and an index takes no long row."""
    long = "".join(chr(0x4E00 + n) for n in range(2_000))
    headers = [(f"h{n}", b"\xff" * 1_000) for n in range(100)]
    scene.dead_letter(
        1,
        text=long,
        like=record(woo_order(), source="x" * 32)._replace(headers=headers, key=long.encode()),
    )
    assert scene.only()["cause"] == long[:300]
