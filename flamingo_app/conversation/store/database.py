"""An engine by URL, brought up to date by numbered migrations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from sqlalchemy import Engine, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from flamingo_app.errors import StoreError

MIGRATIONS = Path(__file__).parent / "migrations"
LOCK = 7_311_986
"""The advisory lock under which one of several starting servers migrates, in PostgreSQL."""


def open_database(url: str) -> Engine:
    """An engine whose database has the newest tables.

    SQLite keeps a write-ahead log and waits for the disk at each commit: what was committed survives a loss of power.

    Raises:
        StoreError: there is no such database, or it cannot be reached.
    """
    try:
        address = make_url(url)
        if address.get_backend_name() == "postgresql":
            address = address.set(drivername="postgresql+psycopg")
        if address.get_backend_name() == "sqlite" and address.database not in (None, "", ":memory:"):
            Path(address.database).parent.mkdir(parents=True, exist_ok=True)
        engine = create_engine(address, pool_pre_ping=True)
        if engine.dialect.name == "sqlite":
            event.listen(engine, "connect", _prepare_sqlite)
            event.listen(engine, "begin", _begin_sqlite)
        migrate(engine)
    except (ArgumentError, SQLAlchemyError, ImportError, OSError) as error:
        reason = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
        raise StoreError(
            expected="a database that can be written", got=f"{_without_password(url)}: {reason}", remedy="check the URL"
        ) from None
    return engine


def migrate(engine: Engine) -> None:
    """Bring the tables up to date, one server at a time."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(text(f"select pg_advisory_xact_lock({LOCK})"))
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def _prepare_sqlite(connection: Any, record: Any) -> None:
    connection.isolation_level = None  # transactions begin where SQLAlchemy says, see `_begin_sqlite`
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=30000"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Any) -> None:
    # Every transaction here writes or is short; one that began by reading could not wait for another that writes.
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _without_password(url: str) -> str:
    try:
        return make_url(url).render_as_string(hide_password=True)
    except ArgumentError:
        return "something else"
