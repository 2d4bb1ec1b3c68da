"""What a mail server's answer means, and how long a sender is patient. Wire format notes, section
9.3.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

import idna
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from services.delivery.addresses import ascii_domain, parse_mailbox, smtp_address
from services.delivery.errors import RecipientUnusable, SmtpUrlUnusable
from services.delivery.sender.rules import (
    LeasedJob,
    RetryPolicy,
    SendIntent,
    SendVerdict,
    SkipReason,
    SmtpReply,
    Stage,
    classify_reply,
    counts_against_server,
    plan_send,
    refusal_error,
)
from services.delivery.sender.smtp import SmtpServer, parse_smtp_url
from services.delivery.settings import DeliverySettings
from services.runtime.failures.backoff import ExponentialDelay
from tests.support.deliveries import issued, ticket_id

NOW = datetime(2026, 11, 21, tzinfo=UTC)
STAGES: tuple[Stage, ...] = ("connect", "login", "mail", "rcpt", "data", "end")
RETRY_POLICY = RetryPolicy(ExponentialDelay(30.0, 3_600.0), 5, timedelta(hours=96))


def leased(**changes: object) -> LeasedJob:
    ids = frozenset({ticket_id("shop:1", 1), ticket_id("shop:1", 2)})
    row = {
        "job_id": UUID(int=1),
        "order_id": "shop:1",
        "attempt": 1,
        "failures": 0,
        "retry_since": NOW,
        "ticket_ids": ids,
    }
    return LeasedJob(**{**row, **changes})  # type: ignore[arg-type]  # a test's row


@pytest.mark.parametrize(
    ("stage", "code", "verdict"),
    [
        ("end", 250, SendVerdict.ACCEPTED),
        ("rcpt", 450, SendVerdict.RETRY),
        ("end", 451, SendVerdict.RETRY),
        ("rcpt", 452, SendVerdict.RETRY),
        ("mail", 455, SendVerdict.RETRY),
        ("rcpt", 552, SendVerdict.RETRY),
        ("end", 552, SendVerdict.REFUSED),
        ("rcpt", 550, SendVerdict.REFUSED),
        ("rcpt", 553, SendVerdict.REFUSED),
        ("end", 554, SendVerdict.REFUSED),
        ("mail", 501, SendVerdict.REFUSED),
        ("mail", 421, SendVerdict.UNAVAILABLE),
        ("end", 421, SendVerdict.UNAVAILABLE),
        ("connect", 554, SendVerdict.UNAVAILABLE),
        ("login", 535, SendVerdict.LOGIN_REFUSED),
        ("login", 454, SendVerdict.LOGIN_REFUSED),
        ("mail", 530, SendVerdict.LOGIN_REFUSED),
        ("connect", 0, SendVerdict.UNAVAILABLE),
        ("login", 0, SendVerdict.UNAVAILABLE),
        ("mail", 0, SendVerdict.RETRY),
        ("rcpt", 0, SendVerdict.RETRY),
        ("data", 0, SendVerdict.RETRY),
        ("end", 0, SendVerdict.UNKNOWN),
    ],
)
def test_an_answer_is_classified_as(stage: Stage, code: int, verdict: SendVerdict) -> None:
    assert classify_reply(SmtpReply(stage, code, "")) is verdict


@given(st.sampled_from(STAGES), st.integers(0, 599))
def test_only_a_yes_to_the_final_dot_is_acceptance_and_no_answer_kills_a_job(
    stage: Stage, code: int
) -> None:
    reply = SmtpReply(stage, code, "")
    verdict = classify_reply(reply)
    assert (verdict is SendVerdict.ACCEPTED) == (
        200 <= code < 300 and stage not in {"connect", "login"}
    )
    if code in {0, 421} or stage in {"connect", "login"}:
        assert verdict is not SendVerdict.REFUSED
    assert counts_against_server(reply, verdict) >= (code == 0)


@pytest.mark.parametrize(
    ("code", "text", "error_code"),
    [
        (550, "5.1.1 no such user", "delivery-address-refused"),
        (550, "no such user", "delivery-address-refused"),
        (550, "5.7.1 blocked", "delivery-policy-refused"),
        (554, "5.7.26 unauthenticated", "delivery-policy-refused"),
        (553, "name not allowed", "delivery-address-refused"),
        (556, "null MX", "delivery-address-refused"),
        (552, "5.2.2 mailbox full", "delivery-mail-refused"),
        (554, "transaction failed", "delivery-mail-refused"),
        (503, "bad sequence", "delivery-dialogue-refused"),
    ],
)
def test_a_refusal_names_whose_fault_it_is(code: int, text: str, error_code: str) -> None:
    assert refusal_error(SmtpReply("rcpt", code, text)).code == error_code


@given(st.integers(1, 60), st.floats(0, 1, exclude_max=True))
def test_waits_grow_and_are_bounded(failures: int, randomness: float) -> None:
    wait = RETRY_POLICY.delay.delay_s(failures, randomness)
    assert 15.0 <= wait <= 3_600.0
    assert RETRY_POLICY.delay.delay_s(failures + 1, randomness) >= wait


def test_retries_end_by_count_or_by_age() -> None:
    assert RETRY_POLICY.exhausted(leased(failures=3), "451", NOW) is None
    too_often = RETRY_POLICY.exhausted(leased(failures=4), "451 later", NOW)
    too_old = RETRY_POLICY.exhausted(leased(), "451 later", NOW + timedelta(hours=96))
    for error in (too_often, too_old):
        assert error is not None
        assert error.code == "delivery-retries-exhausted"
        assert "451 later" in error.cause


def test_what_goes_is_decided_by_the_latest_of_both_writers() -> None:
    two_tickets = issued("shop:1", 1, "Active", "Won")
    one = issued("shop:1", 2, "Cancelled", "Active")
    none = issued("shop:1", 3, "Cancelled", "Cancelled")
    assert plan_send(leased(), None, two_tickets) is SkipReason.HELD
    assert plan_send(leased(), "cancelled", two_tickets) is SkipReason.HELD
    assert plan_send(leased(), "released", none) is SkipReason.CANCELLED
    complete, part = (
        plan_send(leased(), "released", two_tickets),
        plan_send(leased(), "released", one),
    )
    assert isinstance(complete, SendIntent)
    assert isinstance(part, SendIntent)
    assert complete.left_out == frozenset()
    assert part.left_out == {ticket_id("shop:1", 1)}


@pytest.mark.parametrize(
    ("text", "sent"),
    [
        ("ada@example.org", "ada@example.org"),
        ("ada+x@bücher.example", "ada+x@xn--bcher-kva.example"),
        ("info@faß.de", "info@xn--fa-hia.de"),
        ("info@FAẞ.DE", "info@xn--fa-hia.de"),
        ("info@xn--fa-hia.de", "info@xn--fa-hia.de"),
        ("info@βόλος.com", "info@xn--nxasmm1c.com"),
        ("Ada@BÜCHER.Example", "Ada@xn--bcher-kva.example"),
        ("ada@bu\u0308cher.example", "ada@xn--bcher-kva.example"),
        ("ada@example.org.", "ada@example.org"),
        ("ada@日本語。jp", "ada@xn--wgv71a119e.jp"),
        ("ada@\uff45\uff58\uff41\uff4d\uff50\uff4c\uff45\uff0eorg", "ada@example.org"),
        ("ada@\u0646\u0627\u0645\u0647\u200c\u0627\u06cc.com", "ada@xn--mgba3gch31f060k.com"),
        ("ada@xn--i-7iq.ws", "ada@xn--i-7iq.ws"),
        ("ada@r3---sn-apo.example", "ada@r3---sn-apo.example"),
    ],
)
def test_an_address_is_written_as_smtp_takes_it(text: str, sent: str) -> None:
    assert smtp_address(text) == sent


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ada",
        "@example.org",
        "ada@",
        "a b@c.org",
        "a@b@c.org",
        "a@b.org\r\nDATA",
        "a@b.org>",
        "ädä@example.org",
        "a@b..org",
        "a" * 65 + "@b.org",
        "ada@i❤.ws",  # no domain by IDNA 2008; its ASCII form is taken
        "ada@fa\u200dß.de",
        "ada@-faß.de",
        "ada@faß-.de",
        "ada@.faß.de",
        "ada@faß..de",
        "ada@faß.de..",
        "ada@ab--ß.de",
        "ada@\u0301a.de",
        "ada@אaß.de",
        "ada@" + "ß" * 64 + ".de",
        "ada@[127.0.0.1]",
        "ada@a\ud800.de",
        "=?utf-8?q?=0D=0ABcc:_x?=@example.org",
    ],
)
def test_what_is_no_address_is_refused_before_any_server_sees_it(text: str) -> None:
    with pytest.raises(RecipientUnusable):
        smtp_address(text)


@given(
    st.one_of(
        st.text(max_size=30), st.text(alphabet="aäßẞς。\uff0e.-İI\u0131K\u200c\u200d", max_size=20)
    )
)
@example("faß.de")
def test_a_domain_that_is_encoded_decodes_to_the_one_that_was_given(given_domain: str) -> None:
    """What UTS 46 maps (case, width, composition) is given in its mapped form."""
    try:
        encoded = ascii_domain(given_domain)
    except UnicodeError:
        return
    assert encoded.isascii()
    mapped = idna.uts46_remap(given_domain, std3_rules=True, transitional=False).removesuffix(".")
    for written, expected in zip(encoded.split("."), mapped.split("."), strict=True):
        assert expected == (
            written
            if expected.isascii()
            else written.removeprefix("xn--").encode().decode("punycode")
        )
    assert ascii_domain(encoded) == encoded


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("tickets@example.org", ("", "tickets@example.org")),
        ("Tickets <tickets@example.org>", ("Tickets", "tickets@example.org")),
        ('"Ada \\"A\\" <x>" <tickets@example.org>', ('Ada "A" <x>', "tickets@example.org")),
        ("Example, Inc. <tickets@example.org>", ("Example, Inc.", "tickets@example.org")),
        ("=?utf-8?q?=0D=0A?= <tickets@example.org>", ("=?utf-8?q?=0D=0A?=", "tickets@example.org")),
    ],
)
def test_a_setting_names_one_mailbox(text: str, expected: tuple[str, str]) -> None:
    assert parse_mailbox(text) == expected


@pytest.mark.parametrize(
    "text",
    ["", "a", "a@b.org, c@d.org", "A <a@b.org>, C <c@d.org>", "a@b.org <c@d.org>", "A <a@b.org> c", "A <a@b.org\r\nBcc: x>", '"A <a@b.org>'],  # noqa: E501 - a row of a table, or a program
)  # fmt: skip
def test_what_could_be_two_mailboxes_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must be one address"):
        parse_mailbox(text)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("smtp://localhost:2525", SmtpServer("localhost", 2525)),
        ("smtp://mail.example.org", SmtpServer("mail.example.org", 25)),
        ("smtp://mail.faß.de", SmtpServer("mail.xn--fa-hia.de", 25)),
        (
            "smtps://u%40x:p%2Fw@mail.example.org",
            SmtpServer("mail.example.org", 465, is_encrypted=True, user="u@x", password="p/w"),
        ),
        (
            "smtp://u:p@mail.example.org:587?starttls=required",
            SmtpServer("mail.example.org", 587, wants_starttls=True, user="u", password="p"),
        ),
        ("smtp://u:p@127.0.0.1:25", SmtpServer("127.0.0.1", 25, user="u", password="p")),
    ],
)
def test_a_url_names_the_server(url: str, expected: SmtpServer) -> None:
    assert parse_smtp_url(url) == expected
    assert "password" not in repr(expected) or not expected.password


@pytest.mark.parametrize(
    "url",
    [
        "",
        "mail.example.org",
        "http://mail.example.org",
        "smtp://",
        "smtp://h:99999",
        "smtp://u:secret@mail.example.org",
        "smtp://h?starttls=maybe",
        "smtp://h?tls=1",
    ],
)
def test_an_impossible_url_is_refused_without_being_quoted(url: str) -> None:
    with pytest.raises(SmtpUrlUnusable) as refused:
        parse_smtp_url(url)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    "wrong",
    [
        {"sender_address": "nobody"},
        {"reply_to": "a b"},
        {"reply_to": "a@example.org, b@example.org"},
        {"sender_address": "Tickets <tickets@faß.de>"},
        {"lease_ms": 1_000, "mail_deadline_ms": 1_000},
        {"backlog_high_jobs": 10, "backlog_low_jobs": 10},
        {"retry_min_ms": 100, "retry_max_ms": 99},
        {"breaker_min_ms": 100, "breaker_max_ms": 99},
    ],
)
def test_bounds_that_contradict_each_other_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        DeliverySettings.model_validate(wrong)
