"""Removes an entity from the archive of pings."""

from __future__ import annotations

from typing import Final

from stream.commands.forget.findings import Finding, Outcome
from stream.config.wording import counted

PLACE: Final = "archive"


def removed(archive: str, entity_id: str, *, dry_run: bool) -> Finding:
    """Removes all pings of the entity, and lets none be stored again. Raises OSError, ValueError, ArchiveDamaged."""
    from stream.adapters.archived.catalog import files_of, opened, to_change
    from stream.adapters.archived.reading import read_batches
    from stream.services.archive import forgetting

    catalog = opened(archive)
    where = catalog.storage.url
    if not dry_run:
        rows = forgetting.forget(to_change(catalog), entity_id)
        outcome = Outcome.REMOVED if rows else Outcome.ABSENT
        return Finding(PLACE, outcome, f"{counted(rows, 'ping')} in {where}", "nothing of it is stored again")
    rows = sum(
        batch.column("entity_id").to_pylist().count(entity_id)
        for file in files_of(catalog.manifests())
        for batch in read_batches(catalog.storage, file, ("entity_id",))
    )
    return Finding(PLACE, Outcome.FOUND if rows else Outcome.ABSENT, f"{counted(rows, 'ping')} in {where}")
