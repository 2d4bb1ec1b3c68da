"""The document cache and the cleanup in this process, on a real database: races, removal in steps,
and rows that cannot be wrong.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

import psycopg
import pytest
from psycopg.pq import TransactionStatus
from typing_extensions import override

from services.delivery.blob_store import BlobStore, blob_path
from services.delivery.document_cache import DocumentCache, Outcome
from services.delivery.documents import document
from services.delivery.printing.documents import Document
from services.delivery.printing.errors import DesignUnusable
from services.delivery.sender import cleanup as cleanups
from services.delivery.sender.cleanup import FileCleanup
from services.delivery.sender.telemetry import SenderTelemetry
from services.delivery.store import FileIndex, IndexedFile
from services.runtime.errors import StublineError
from services.runtime.failures.backoff import ExponentialDelay
from services.runtime.failures.circuit_breaker import CircuitBreaker
from services.runtime.postgres import connection
from services.runtime.postgres.lane_store import Session
from tests.support.deliveries import issued
from tests.support.sessions import waiting_sessions

ORDER = "shop:727"
DAY_S = 86_400.0


@dataclass
class Printer:
    """Renders at once: the document's text. `salt`: what it depends on and does not name, which no
    renderer may have.
    """

    before: Callable[[], object] = lambda: None
    salt: str = ""
    rendered: list[str] = field(default_factory=list)

    def key(self, document: Document) -> bytes:
        return hashlib.sha256(repr(document).encode()).digest()

    def language(self, design: str, requested: str) -> str:  # noqa: ARG002 - it has one design
        return requested or "en"

    def stamp(self, document: Document) -> bytes | None:  # noqa: ARG002 - nothing can be stamped
        return None

    def compile(self, document: Document) -> None:
        """Nothing has to be compiled."""

    def render(self, document: Document) -> bytes:
        self.before()
        self.rendered.append(document.order)
        return f"%PDF {document!r}{self.salt}".encode()


class FileTelemetry(SenderTelemetry):
    """Records what is reported of files."""

    def __init__(self) -> None:
        self.codes: list[str] = []
        self.removed = 0

    @override
    def file_failed(self, order_id: str, error: StublineError) -> None:
        self.codes.append(error.code)

    @override
    def files_removed(self, files: int) -> None:
        self.removed += files


class CacheSite:
    """The document caches of any number of senders, on one database and one store."""

    def __init__(self, url: str, folder: Path, held: ExitStack) -> None:
        self._url, self._held = url, held
        tireless = CircuitBreaker(10**9, ExponentialDelay(1.0, 1.0), lambda: 0.0, lambda: 0.0)
        self.folder, self.files, self.telemetry = (
            folder,
            BlobStore(str(folder), tireless),
            FileTelemetry(),
        )
        self.session = self.connect()

    def connect(self) -> Session:
        return self._held.enter_context(connection.connect(self._url, name="archive"))

    def document_cache(
        self,
        printer: Printer,
        session: Session | None = None,
        clock: Callable[[], float] = lambda: 0.0,
    ) -> DocumentCache:
        index = FileIndex(session or self.connect())
        return DocumentCache(lambda: index, self.files, printer, self.telemetry, clock)

    def cleanup(self, clock: Callable[[], float] = lambda: 0.0, keep_days: int = 30) -> FileCleanup:
        index = FileIndex(self.session)
        return FileCleanup(lambda: index, self.files, keep_days, self.telemetry, clock)

    def rows(self) -> list[tuple[bytes, bytes]]:
        return self.session.execute(
            "select document_key, sha256 from delivery.files order by document_key"
        ).fetchall()

    def stored(self) -> set[str]:
        return {
            str(file.relative_to(self.folder)) for file in self.folder.rglob("*") if file.is_file()
        }

    def age(self, days: float) -> None:
        """Make all files look as if they had last been used so much longer ago."""
        older = (
            "update delivery.files set made_at = made_at - %(days)s * interval '1 day', "
            "used_at = used_at - %(days)s * interval '1 day'"
        )
        self.session.execute(older.encode(), {"days": days})

    def is_consistent(self) -> bool:
        """Return whether each row has its file, and each file a row."""
        return {blob_path(sha256) for _, sha256 in self.rows()} == self.stored()


@pytest.fixture
def site(database_url: str, tmp_path: Path) -> Iterator[CacheSite]:
    with ExitStack() as held:
        yield CacheSite(database_url, tmp_path / "files", held)


def paper(order_id: str = ORDER, tickets: int = 2) -> Document:
    snapshot = issued(order_id, 1, *["Active"] * tickets)
    return document(snapshot, snapshot.tickets)


def outcomes(
    document_cache: DocumentCache, *documents: Document, order_id: str = ORDER
) -> list[Outcome]:
    return [files.outcome for files in document_cache.fetch(order_id, documents)]


def test_a_document_that_is_requested_again_is_found_by_every_sender(site: CacheSite) -> None:
    printer = Printer()
    documents = [paper("shop:1"), paper("shop:2"), paper("shop:3")]
    first = site.document_cache(printer).fetch(ORDER, documents[:2])
    repeated = site.document_cache(printer).fetch(ORDER, [*reversed(documents), documents[0]])
    assert [file.outcome for file in first] == ["rendered", "rendered"]
    assert [file.outcome for file in repeated] == ["rendered", "found", "found", "found"]
    assert [file.pdf for file in repeated[1:]] == [
        first[1].pdf,
        first[0].pdf,
        first[0].pdf,
    ]  # in the order of the request
    assert printer.rendered == ["1", "2", "3"]
    assert all(hashlib.sha256(file.pdf).digest() == file.sha256 for file in repeated)
    assert site.is_consistent()


@pytest.mark.parametrize("senders", [2, 5])
def test_senders_that_render_one_document_at_once_end_with_one_row_one_file_and_equal_bytes(
    site: CacheSite, senders: int
) -> None:
    together = threading.Barrier(senders, timeout=10)
    caches = [site.document_cache(Printer(before=together.wait)) for _ in range(senders)]
    with ThreadPoolExecutor(senders) as pool:
        files = list(
            pool.map(lambda document_cache: document_cache.fetch(ORDER, [paper()])[0], caches)
        )
    assert len({file.pdf for file in files}) == 1
    assert {file.outcome for file in files} == {"rendered"}
    assert (len(site.rows()), len(site.stored())) == (1, 1)
    assert site.telemetry.codes == []
    assert site.is_consistent()


def test_senders_that_name_the_same_documents_in_another_order_never_deadlock(
    site: CacheSite,
) -> None:
    """The first row is held until both wait. Had the second sender taken the other row before, the
    first would wait for that.
    """
    low, high = (IndexedFile(bytes([digit] * 32), bytes(32), 1, 1) for digit in (1, 2))
    FileIndex(site.session).record(ORDER, [low, high], [])
    holder, watcher = site.connect(), site.connect()
    with ThreadPoolExecutor(2) as pool:
        with holder.transaction():
            holder.execute(
                "select from delivery.files where document_key = %s for update", [low.document_key]
            )
            named = []
            for sequence in ([low, high], [high, low]):
                named.append(pool.submit(FileIndex(site.connect()).record, ORDER, sequence, []))
                while waiting_sessions(watcher) < len(named):
                    assert not named[-1].done()
        assert [len(file.result(60)) for file in named] == [2, 2]


def test_no_transaction_is_open_while_it_renders(site: CacheSite) -> None:
    session = site.connect()
    seen: list[TransactionStatus] = []
    printer = Printer(before=lambda: seen.append(session.info.transaction_status))
    site.document_cache(printer, session).fetch(ORDER, [paper("shop:1"), paper("shop:2")])
    assert seen == [TransactionStatus.IDLE] * 2


def test_what_cannot_be_rendered_leaves_nothing(site: CacheSite) -> None:
    def fail() -> None:
        raise RuntimeError("as the test requested")

    with pytest.raises(RuntimeError, match="as the test requested"):
        site.document_cache(Printer(before=fail)).fetch(ORDER, [paper()])
    assert (site.rows(), site.stored()) == ([], set())


def test_a_design_that_takes_long_to_fail_takes_a_tenth_of_the_time_and_other_campaigns_go_on(
    site: CacheSite,
) -> None:
    now, tries = 0.0, 0

    def fail() -> None:
        nonlocal now, tries
        now, tries = now + 60, tries + 1
        raise DesignUnusable("style.css:3: too much")

    def clock() -> float:
        return now

    document_cache = site.document_cache(Printer(before=fail), clock=clock)
    for second in range(0, 3_600, 20):
        now = max(now, float(second))
        with pytest.raises(DesignUnusable, match="too much"):
            document_cache.fetch(ORDER, [paper()])
    assert tries == 6
    other = replace(
        paper(), pages=tuple(replace(page, campaign_id="autumn") for page in paper().pages)
    )
    with pytest.raises(DesignUnusable):
        document_cache.fetch(ORDER, [other])
    assert tries == 7  # it is tried at once: another campaign's design may be sound


def test_a_renderer_that_breaks_its_promise_is_reported_and_the_first_file_stays(
    site: CacheSite,
) -> None:
    [first] = site.document_cache(Printer()).fetch(ORDER, [paper()])
    together = threading.Barrier(2, timeout=10)
    other = paper("shop:2")
    caches = [site.document_cache(Printer(before=together.wait, salt=salt)) for salt in ("a", "b")]
    with ThreadPoolExecutor(2) as pool:
        files = list(
            pool.map(lambda document_cache: document_cache.fetch(ORDER, [other])[0], caches)
        )
    assert sorted(file.outcome for file in files) == ["rendered", "unstored"]
    assert site.telemetry.codes == ["delivery-files-differ"]
    [kept] = [file for file in files if file.outcome == "rendered"]
    assert (
        site.document_cache(Printer(salt="c")).fetch(ORDER, [other, paper()])[0].sha256
        == kept.sha256
    )
    assert site.document_cache(Printer(salt="c")).fetch(ORDER, [paper()])[0].sha256 == first.sha256
    assert site.is_consistent()


def test_a_lost_file_that_is_rendered_differently_takes_its_row_and_nothing_is_left_of_the_old_one(
    site: CacheSite,
) -> None:
    [before] = site.document_cache(Printer(salt="old")).fetch(ORDER, [paper()])
    (site.folder / blob_path(before.sha256)).write_bytes(b"damaged")
    [after] = site.document_cache(Printer(salt="new")).fetch(ORDER, [paper()])
    assert (after.outcome, site.telemetry.codes) == (
        "repaired",
        ["delivery-file-damaged", "delivery-files-differ"],
    )
    assert [sha256 for _, sha256 in site.rows()] == [after.sha256]
    assert site.is_consistent()
    assert outcomes(site.document_cache(Printer(salt="newer")), paper()) == ["found"]


# Removal.


def test_what_is_used_stays_and_what_is_not_goes_row_and_file(site: CacheSite) -> None:
    document_cache = site.document_cache(Printer())
    document_cache.fetch(ORDER, [paper("shop:1"), paper("shop:2")])
    site.age(29.5)
    assert outcomes(document_cache, paper("shop:1")) == ["found"]
    site.age(1)
    site.cleanup().step()
    assert (len(site.rows()), site.telemetry.removed) == (1, 1)
    assert site.is_consistent()
    assert outcomes(document_cache, paper("shop:1"), paper("shop:2")) == ["found", "rendered"]


def test_a_use_is_written_down_once_an_hour_at_most(site: CacheSite) -> None:
    """Each mail would be a write otherwise."""
    document_cache = site.document_cache(Printer())
    document_cache.fetch(ORDER, [paper()])
    statement = b"select used_at from delivery.files"
    for hours, is_noted in ((0.9, False), (1.2, True)):
        site.age(hours / 24)
        before = site.session.execute(statement).fetchone()
        assert outcomes(document_cache, paper()) == ["found"]
        assert (site.session.execute(statement).fetchone() != before) == is_noted


def test_a_content_that_another_document_still_uses_stays(site: CacheSite) -> None:
    class Same(Printer):
        @override
        def render(self, document: Document) -> bytes:
            return b"%PDF the same for all"

    document_cache = site.document_cache(Same())
    document_cache.fetch(ORDER, [paper("shop:1"), paper("shop:2")])
    assert (len(site.rows()), len(site.stored())) == (2, 1)
    site.age(31)
    assert outcomes(document_cache, paper("shop:2")) == ["found"]
    site.cleanup().step()
    assert (len(site.rows()), len(site.stored())) == (1, 1)
    site.age(31)
    site.cleanup().step()
    assert (site.rows(), site.stored()) == ([], set())


def test_removal_goes_in_bounded_steps_with_a_delay_between_and_a_long_one_when_nothing_is_left(
    site: CacheSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cleanups, "BATCH_FILES_MAX", 4)
    site.document_cache(Printer()).fetch(ORDER, [paper(f"shop:{number}") for number in range(10)])
    site.age(31)
    now = 0.0
    cleanup = site.cleanup(clock=lambda: now)
    left = []
    for second in (0.0, 1.0, 5.0, 6.0, 10.0, 20.0, 700.0):
        now = second
        cleanup.step()
        left.append(len(site.rows()))
    assert left == [6, 6, 2, 2, 0, 0, 0]
    assert site.telemetry.removed == 10
    assert site.is_consistent()


def test_one_sender_at_a_time_removes_and_another_follows_a_dead_one(site: CacheSite) -> None:
    site.document_cache(Printer()).fetch(ORDER, [paper()])
    site.age(31)
    other = site.connect()
    with FileIndex(other).removal() as is_theirs:
        assert is_theirs
        site.cleanup().step()
        assert len(site.rows()) == 1
        other.close()
    until = time.monotonic() + 60
    while site.rows():  # the server notices an end in a moment
        assert time.monotonic() < until
        site.cleanup().step()
    assert site.stored() == set()
    with FileIndex(site.connect()).removal() as is_free:  # released after each step
        assert is_free


def test_a_cleanup_killed_between_content_and_row_leaves_rows_only_and_the_next_step_removes_them(
    site: CacheSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    document_cache = site.document_cache(Printer())
    document_cache.fetch(ORDER, [paper("shop:1"), paper("shop:2")])
    site.age(31)

    def killed(*_: object) -> None:
        raise RuntimeError("killed here")

    with monkeypatch.context() as patched:
        patched.setattr(FileIndex, "forget", killed)
        with pytest.raises(RuntimeError, match="killed here"):
            site.cleanup().step()
    assert (len(site.rows()), site.stored()) == (2, set())
    assert outcomes(document_cache, paper("shop:1")) == ["repaired"]  # a request meanwhile gets it
    site.cleanup().step()
    assert len(site.rows()) == 1
    assert site.is_consistent()


def test_a_file_that_is_used_while_it_is_removed_keeps_its_row_and_is_rendered_again(
    site: CacheSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    document_cache = site.document_cache(Printer())
    [before] = document_cache.fetch(ORDER, [paper()])
    site.age(31)
    delete = BlobStore.delete

    def delete_and_use(files: BlobStore, sha256: bytes) -> None:
        """A mail finds the file, and just then it goes."""
        assert outcomes(document_cache, paper()) == ["found"]
        delete(files, sha256)

    monkeypatch.setattr(BlobStore, "delete", delete_and_use)
    site.cleanup().step()
    assert len(site.rows()) == 1
    [after] = document_cache.fetch(ORDER, [paper()])
    assert (after.outcome, after.pdf) == ("repaired", before.pdf)
    assert site.is_consistent()


def test_an_unavailable_store_keeps_the_rows_of_what_could_not_be_removed(site: CacheSite) -> None:
    site.document_cache(Printer()).fetch(ORDER, [paper("shop:1"), paper("shop:2")])
    site.age(31)
    moved = site.folder.rename(site.folder.with_name("away"))
    site.folder.write_text("in its place")
    site.cleanup().step()
    assert len(site.rows()) == 2
    assert site.telemetry.codes == ["delivery-files-unavailable"]
    site.folder.unlink()
    moved.rename(site.folder)
    site.cleanup().step()
    assert (site.rows(), site.stored()) == ([], set())


def test_zero_days_keep_all(site: CacheSite) -> None:
    site.document_cache(Printer()).fetch(ORDER, [paper()])
    site.age(4_000)
    site.cleanup(keep_days=0).step()
    assert len(site.rows()) == 1


# Rows that cannot be.


@pytest.mark.parametrize(
    ("column", "wrong"),
    [
        ("document_key", "'\\x00'"),
        ("sha256", "'\\x00'"),
        ("bytes", "0"),
        ("pages", "0"),
        ("order_id", "null"),
        ("used_at", "made_at - interval '1 second'"),
    ],
)
def test_a_malformed_row_is_refused(site: CacheSite, column: str, wrong: str) -> None:
    site.document_cache(Printer()).fetch(ORDER, [paper()])
    with pytest.raises(psycopg.errors.IntegrityError):
        site.session.execute(f"update delivery.files set {column} = {wrong}".encode())


def test_a_document_is_one_row(site: CacheSite) -> None:
    site.document_cache(Printer()).fetch(ORDER, [paper()])
    with pytest.raises(psycopg.errors.UniqueViolation):
        site.session.execute(b"insert into delivery.files select * from delivery.files")
