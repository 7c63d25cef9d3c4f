"""What follows from facts about weights, kernels, atlases and a registry. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from stream.commands.doctor.files_facts import Atlases, Versions, Weights
from stream.commands.doctor.finding import Finding, ok, problem, unknown, warning
from stream.config.security import shown

LEAST_FREE: Final = 1 << 30  # bytes: an atlas of a large fleet has some hundred megabytes, and days lie beside it
NO_ROOM: Final = 100 << 20
LEAST_SHARE: Final = 0.05


def check_weights(found: Weights) -> list[Finding]:
    if found.error:
        return [
            problem(
                "weights",
                f"{found.given} cannot be used: {found.error}",
                "give --weights (PATHCAST_WEIGHTS) a bundled name or a whole directory of pathcast train: "
                "copy it again, or fetch it anew (pathcast models export)",
            )
        ]
    return [*_golden(found), _kernels(found)]


def _golden(found: Weights) -> Iterator[Finding]:
    said = f"{found.name}, version {found.version}"
    if found.differs:
        yield problem(
            "weights",
            f"{said}: {found.differs}",
            "fetch them again; if it stays, run pathcast worker --warm anew, or tell us",
        )
    elif not found.golden:
        yield ok("weights", f"{said}; no golden forecasts beside them")
    elif not found.compiled:
        yield unknown("weights", f"{said}: golden forecasts are made with kernels, which are not compiled here")
    else:
        yield ok("weights", f"{said}; its golden forecasts are the same here")


def _kernels(found: Weights) -> Finding:
    if found.compiled is None:
        return warning(
            "kernels",
            "no folder for them can be written: each start compiles them, half a minute or more",
            "set NUMBA_CACHE_DIR to a folder that can be written and lasts",
        )
    if not found.compiled:
        return warning(
            "kernels", "not compiled for this machine yet: the first start does it", "run pathcast worker --warm"
        )
    return ok("kernels", f"compiled, in {found.kernels[0]}")


def check_atlases(found: Atlases) -> list[Finding]:
    where = f"{found.folder}"
    if found.error:
        return [problem("atlases", f"{where}: {found.error}", "give --atlases the directory of pathcast beside atlas")]
    return [*_files(found, where), _space(found, where)]


def _files(found: Atlases, where: str) -> Iterator[Finding]:
    for version, why in found.damaged.items():
        yield problem("atlases", f"{version} in {where}: {why}", "copy the file again, or wait for a new one")
    if found.missing:
        names = ", ".join(found.missing[:3]) + (" and more" if len(found.missing) > 3 else "")
        yield problem(
            "atlases",
            f"announced, and not in {where}: {names}",
            "workers and `beside atlas` need the same directory: share it, or copy the files",
        )
    if not found.damaged and not found.missing:
        if found.announced is None:
            yield unknown("atlases", f"{found.files} whole files in {where}; which are announced cannot be read")
        else:
            yield ok("atlases", f"{found.files} files in {where}; all {found.announced} announced are there, and whole")


def _space(found: Atlases, where: str) -> Finding:
    said = f"{found.free_bytes / 1e9:,.1f} GB free where {where} lies"
    if found.free_bytes < NO_ROOM:
        return problem("disk", said, "make room: a version that is not written whole does not serve")
    if found.free_bytes < LEAST_FREE or found.free_bytes < LEAST_SHARE * found.total_bytes:
        return warning("disk", said, "make room before `beside atlas` needs it")
    return ok("disk", said)


def check_versions(found: Versions) -> list[Finding]:
    where = shown(found.url)
    if found.error:
        return [
            problem("registry", f"{where}: {found.error}", "is --registry (PATHCAST_REGISTRY) right, and its access?")
        ]
    findings = [
        problem("registry", f"weights {version} in {where}: {why}", "publish them again, or import them from a copy")
        for version, why in found.damaged.items()
    ]
    if found.missing:
        findings.append(
            problem(
                "registry",
                f"weights that are announced are not in {where}: {', '.join(found.missing[:3])}",
                "publish or import them, or roll back (pathcast models rollback)",
            )
        )
    checked = "files of a remote one are checked when they are fetched"
    if not found.is_remote:
        checked = f"the files of {found.checked} were read, and are as published"
    counted = f"weights: {found.weights}, atlases: {found.atlases}, in {where}"
    return findings or [ok("registry", f"{counted}; {checked}")]
