from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine, inspect, text

from db.models import Base
from db.prepare import alembic_config, prepare
from db.search.filters import Filters
from db.search.find import find, find_jobs
from db.search.query import parse
from db.session import make_sessions
from db.settings import Settings
from db.tenancy import TenantSessions
from db.tenant_role import ensure_tenant_role
from tests.api.test_search import add_transcript


def test_models_and_migrations_describe_the_same_schema(settings: Settings) -> None:
    with create_engine(settings.database_url).connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_server_default": True})
        assert compare_metadata(context, Base.metadata) == []


def test_down_to_nothing_and_up_again(settings: Settings) -> None:
    config = alembic_config(settings.database_url)
    engine = create_engine(settings.database_url)
    command.downgrade(config, "base")
    with engine.connect() as connection:
        left = connection.execute(
            text(
                "SELECT relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
                "WHERE n.nspname = 'public' AND relkind IN ('r', 'S') AND relname <> 'alembic_version' "
                "UNION SELECT typname FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace "
                "WHERE n.nspname = 'public' AND typtype = 'e'"
            )
        ).all()
    assert left == []
    command.upgrade(config, "head")
    assert set(inspect(engine).get_table_names()) >= set(Base.metadata.tables)
    engine.dispose()


def test_what_was_searched_before_its_words_were_marked_is_found(settings: Settings) -> None:
    """By the rights of the version before, and for its processes that run on."""
    sessions = make_sessions(settings, name="test")
    for tenant in ("acme", "globex"):
        add_transcript(sessions, [f"The budget of {tenant}."], tenant=tenant)
    engine = create_engine(settings.database_url)
    command.downgrade(alembic_config(settings.database_url), "0025")
    with engine.begin() as connection:
        connection.execute(text("UPDATE passages SET terms = to_tsvector('simple', text)"))
    ensure_tenant_role(settings.database_url)
    command.upgrade(alembic_config(settings.database_url), "head")
    for tenant in ("acme", "globex"):
        with TenantSessions(sessions)(tenant)() as session:
            found = find(session, parse("budget"), Filters(), limit=10)
            assert [hit.passage["text"] for hit in found] == [f"The budget of {tenant}."]
            assert [job.tenant for job in find_jobs(session, parse("budget"), Filters(), limit=10)] == [tenant]
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM own_passages_by_words")) == 0, "of no tenant"
    engine.dispose()
    sessions.kw["bind"].dispose()


def test_preparing_twice_changes_nothing(settings: Settings) -> None:
    prepare(settings)


LOOKED_THROUGH = {
    "turns": "a recording has few speakers",
    "model_versions": "there are few",
    "signals": "a version is hardly ever removed",
}
"""For each row that they refer to, and why that may be."""


def test_rows_that_go_with_others_are_found_by_an_index(settings: Settings) -> None:
    """Removing a row removes those that refer to it: without an index, each time by going through all of them."""
    engine = create_engine(settings.database_url)
    found = inspect(engine)
    unindexed = []
    for table in found.get_table_names():
        keys = [found.get_pk_constraint(table)["constrained_columns"]]
        keys += [unique["column_names"] for unique in found.get_unique_constraints(table)]
        keys += [[name or "" for name in index["column_names"]] for index in found.get_indexes(table)]
        unindexed += [
            (table, foreign["constrained_columns"])
            for foreign in found.get_foreign_keys(table)
            if not any(
                set(foreign["constrained_columns"]) == set(key[: len(foreign["constrained_columns"])])
                for key in keys
            )
        ]
    engine.dispose()
    assert {table for table, _ in unindexed} == set(LOOKED_THROUGH), unindexed
