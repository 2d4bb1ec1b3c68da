"""Laws of the way to PostgreSQL: what a URL requires is done or named. TLS and whose certificates
are trusted, a password in a file, and the one of several hosts that takes writes.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from deploy.local.ports import free_ports
from deploy.local.postgres import Postgres
from services.runtime.errors import DatabaseUnavailable
from services.runtime.failures import classification
from services.runtime.failures.classification import FailureKind
from services.runtime.postgres import connection as database
from tests.support.certificates import LocalAuthority
from tests.support.tls_proxy import TlsProxy


@pytest.fixture
def authority(tmp_path: Path) -> LocalAuthority:
    return LocalAuthority(tmp_path)


def place(url: str) -> tuple[str, int]:
    parameters = conninfo_to_dict(url)
    return str(parameters["host"]), int(str(parameters["port"]))


def refusal(url: str) -> str:
    """The cause that a service logs while it waits; it waits for all of these."""
    with pytest.raises(psycopg.OperationalError) as refused:
        database.connect(url, name="law")
    assert classification.classify_error(refused.value) is FailureKind.UNAVAILABLE
    error = classification.as_stubline_error(refused.value)
    assert type(error) is DatabaseUnavailable
    return error.cause


def test_a_session_is_encrypted_and_the_certificate_checked_as_the_url_requires(
    authority: LocalAuthority, database_url: str
) -> None:
    with TlsProxy(place(database_url), authority.issue("db")) as proxy:
        url = make_conninfo(
            database_url,
            port=proxy.port,
            sslmode="verify-full",
            sslrootcert=str(authority.certificate),
        )
        with database.connect(url, name="law") as session:
            assert session.pgconn.ssl_in_use
            assert session.execute("select 1").fetchone() == (1,)
    assert proxy.sessions == 1


def test_a_certificate_of_another_authority_is_not_trusted(
    authority: LocalAuthority, tmp_path: Path, database_url: str
) -> None:
    (tmp_path / "other").mkdir()
    other = LocalAuthority(tmp_path / "other")
    with TlsProxy(place(database_url), other.issue("db")) as proxy:
        url = make_conninfo(
            database_url,
            port=proxy.port,
            sslmode="verify-full",
            sslrootcert=str(authority.certificate),
        )
        assert "certificate verify failed" in refusal(url)


def test_an_expired_certificate_is_named(authority: LocalAuthority, database_url: str) -> None:
    with TlsProxy(place(database_url), authority.issue("db", is_expired=True)) as proxy:
        url = make_conninfo(
            database_url,
            port=proxy.port,
            sslmode="verify-ca",
            sslrootcert=str(authority.certificate),
        )
        assert "certificate verify failed" in refusal(url)


def test_a_server_without_tls_is_refused_where_it_is_required(database_url: str) -> None:
    assert "does not support SSL" in refusal(make_conninfo(database_url, sslmode="require"))


def test_a_missing_authority_is_named(
    authority: LocalAuthority, tmp_path: Path, database_url: str
) -> None:
    with TlsProxy(place(database_url), authority.issue("db")) as proxy:
        url = make_conninfo(
            database_url,
            port=proxy.port,
            sslmode="verify-full",
            sslrootcert=str(tmp_path / "missing.pem"),
        )
        assert "missing.pem" in refusal(url)


@pytest.fixture
def standby(tmp_path: Path) -> Iterator[Postgres]:
    """A server of its own that takes no writes, as a standby does not."""
    (port,) = free_ports(1, avoid=set())
    server = Postgres(tmp_path, port, detached=False)
    try:
        server.start()
        with psycopg.connect(server.url, autocommit=True) as session:
            session.execute("alter system set default_transaction_read_only = on")
            session.execute("select pg_reload_conf()")
        yield server
    finally:
        server.stop(immediate=True)
        server.remove()


@pytest.mark.slow
def test_of_several_hosts_the_one_that_takes_writes_is_used(
    tmp_path: Path, database_url: str, standby: Postgres
) -> None:
    """A dead host, a standby and the primary; each password stands in one file."""
    primary, secondary = conninfo_to_dict(database_url), conninfo_to_dict(standby.url)
    (dead,) = free_ports(1, avoid=set())
    passfile = tmp_path / "pgpass"
    passfile.touch(0o600)
    passfile.write_text(
        "".join(
            f"{server['host']}:{server['port']}:*:*:{server['password']}\n"
            for server in (primary, secondary)
        )
    )

    def url(*ports: object, session_attrs: str) -> str:
        hosts = ",".join(f"127.0.0.1:{port}" for port in ports)
        return (
            f"postgresql://{primary['user']}@{hosts}/stubline?passfile={passfile}"
            f"&target_session_attrs={session_attrs}"
        )

    three = (dead, secondary["port"], primary["port"])
    with database.connect(url(*three, session_attrs="read-write"), name="law") as session:
        assert session.info.port == int(str(primary["port"]))
    with database.connect(url(*three, session_attrs="any"), name="law") as session:
        assert session.info.port == int(str(secondary["port"]))
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction) as refused:
            session.execute("create table written (id int)")
    assert classification.classify_error(refused.value) is FailureKind.UNAVAILABLE
    assert "read-only" in refusal(url(dead, secondary["port"], session_attrs="read-write"))


def test_a_wrong_password_in_the_file_is_named(tmp_path: Path, database_url: str) -> None:
    parameters = conninfo_to_dict(database_url)
    passfile = tmp_path / "pgpass"
    passfile.touch(0o600)
    passfile.write_text("*:*:*:*:another\n")
    url = (
        f"postgresql://{parameters['user']}@{parameters['host']}:{parameters['port']}/{parameters['dbname']}"
        f"?passfile={passfile}"
    )
    assert "password authentication failed" in refusal(url)
