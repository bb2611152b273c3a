"""Alembic's entry: runs with the connection that `gateway.migrate` hands over."""

from typing import Any

from alembic import context

from gateway.ledger.tables import metadata


def include_name(name: str | None, kind: str, _parents: Any) -> bool:
    """Daily partitions come and go; they are not part of the schema."""
    return not (kind == "table" and name is not None and name.startswith("job_events_"))


context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    include_name=include_name,
    compare_server_default=True,
    transaction_per_migration=True,
)
with context.begin_transaction():
    context.run_migrations()
