"""What `pathcast train` makes: a named size and any field of model, batches or run set by name. Knows fields only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Final, NamedTuple

from model.config import BASE, SMALL, ModelConfig
from train.options import BatchOptions, FitOptions

SIZES: Final[Mapping[str, ModelConfig]] = {"small": SMALL, "base": BASE}


class Recipe(NamedTuple):
    config: ModelConfig
    batch: BatchOptions
    run: dict[str, Any]  # fields of FitOptions


def recipe(size: str, settings: Sequence[str]) -> Recipe:
    """`size` is a name or a config.json; settings are KEY=VALUE of ModelConfig, BatchOptions or FitOptions.

    Raises ValueError for a name that no one has, or a value of the wrong type.
    """
    config, batch = _config(size), BatchOptions()
    run: dict[str, Any] = {}
    for setting in settings:
        key, given, value = setting.partition("=")
        if not given:
            raise ValueError(f"{setting!r} is no KEY=VALUE")
        if _has(config, key):
            config = replace(config, **{key: _parse(key, value, getattr(config, key))})
        elif _has(batch, key):
            batch = replace(batch, **{key: _parse(key, value, getattr(batch, key))})
        elif key in _RUN:
            run[key] = _parse(key, value, _RUN[key])
        else:
            raise ValueError(f"{key!r} is no field: known are {', '.join(sorted(_known(config, batch)))}")
    return Recipe(config, batch, run)


_RUN: Final[dict[str, Any]] = {
    field.name: field.default for field in fields(FitOptions) if isinstance(field.default, int | float)
}


def _config(size: str) -> ModelConfig:
    if size in SIZES:
        return SIZES[size]
    path = Path(size)
    if not path.is_file():
        raise ValueError(f"no size {size!r}: give one of {', '.join(SIZES)}, or a config.json")
    return ModelConfig.loads(path.read_text(encoding="utf-8"))


def _has(of: object, key: str) -> bool:
    return key in {field.name for field in fields(of)}  # type: ignore[arg-type]


def _known(config: ModelConfig, batch: BatchOptions) -> set[str]:
    return {field.name for of in (config, batch) for field in fields(of)} | set(_RUN)


def _parse(key: str, value: str, like: Any) -> Any:
    """The value as the type of what it replaces."""
    if isinstance(like, tuple):
        return tuple(part.strip() for part in value.split(","))
    if isinstance(like, bool):
        if value.lower() not in ("true", "false"):
            raise ValueError(f"{key} must be true or false, got {value!r}")
        return value.lower() == "true"
    try:
        return type(like)(value)
    except ValueError as error:
        raise ValueError(f"{key} must be {type(like).__name__}, got {value!r}") from error
