"""Removes an entity from the archive of pings, as `pathcast archive forget` does."""

from __future__ import annotations

from typing import Final

from stream.commands.forget.findings import Finding, Outcome
from stream.config.wording import counted

PLACE: Final = "archive"


def removed(archive: str, entity_id: str, *, dry_run: bool) -> Finding:
    """Removes all pings of the entity, and lets none be stored again. Raises OSError, ValueError, ArchiveDamaged."""
    from stream.adapters.archived.catalog import files_of, open_archive
    from stream.services.archive import changes, forgetting

    catalog = open_archive(archive, to_change=not dry_run)
    where = catalog.storage.url
    if not dry_run:
        rows = forgetting.forget(catalog, entity_id)
        outcome = Outcome.REMOVED if rows else Outcome.ABSENT
        return Finding(PLACE, outcome, f"{counted(rows, 'ping')} in {where}", "nothing of it is stored again")
    files = files_of(catalog.manifests())
    rows = sum(
        changes.read(catalog, [file], ["entity_id"]).column("entity_id").to_pylist().count(entity_id) for file in files
    )
    return Finding(PLACE, Outcome.FOUND if rows else Outcome.ABSENT, f"{counted(rows, 'ping')} in {where}")
