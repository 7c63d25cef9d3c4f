"""The options of `pathcast train` that make a model: its size, and fields of model, batches or run set by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Final, NamedTuple

from model.config import MAX_LEARNED, SMALL, ModelConfig
from train.batches.options import RENAMED, BatchOptions, FitOptions


class Recipe(NamedTuple):
    config: ModelConfig
    batch: BatchOptions
    run: dict[str, Any]  # fields of FitOptions


def build_recipe(size: str, settings: Sequence[str]) -> Recipe:
    """Builds a recipe. `size` is small or a config.json; settings are KEY=VALUE of ModelConfig, BatchOptions or
    FitOptions.

    Raises ValueError for an unknown name or one that has an option of its own, for a value of the wrong type, and for
    values that do not fit together.
    """
    config, batch = _config(size), BatchOptions()
    # They are set together at the end, so that their order does not matter.
    model: dict[str, Any] = {}
    batches: dict[str, Any] = {}
    run: dict[str, Any] = {}
    for setting in settings:
        key, given, value = setting.partition("=")
        if not given:
            raise ValueError(f"{setting!r} is no KEY=VALUE")
        if _has(config, key):
            model[key] = _parse(key, value, getattr(config, key))
        elif _has(batch, key):
            batches[key] = _parse(key, value, getattr(batch, key))
        elif key in _RUN:
            run[key] = _parse(key, value, _RUN[key])
        elif key in RENAMED:
            raise ValueError(f"{key} is called {RENAMED[key]} now: give {RENAMED[key]}={value}")
        elif key in _OPTIONS:
            raise ValueError(f"{key} has an option of its own: give --{key}")
        else:
            raise ValueError(f"{key!r} is no field: known are {', '.join(sorted(_known_fields(config, batch)))}")
    return _check_fit(Recipe(replace(config, **model), replace(batch, **batches), run))


# These have options of their own, which would contradict a setting: --lr changes the learning rates of both optimizers.
_ELSEWHERE: Final = ("seed", "accumulate", "lr")
# The values give the expected types. bfloat16 is None by default, which lets the device decide; so is retain, without
# which all weights learn freely.
_RUN: Final[dict[str, Any]] = {
    field.name: field.default
    for field in fields(FitOptions)
    if isinstance(field.default, int | float) and field.name not in _ELSEWHERE
} | {"bfloat16": False, "retain": 0.0}
_OPTIONS: Final = {field.name for field in fields(FitOptions)} - _RUN.keys() - {"batch"}


def _check_fit(made: Recipe) -> Recipe:
    """Returns the recipe. Raises ValueError where model and batches do not fit together."""
    patch, tokens = made.config.patch, made.batch.tokens
    if tokens % patch:
        raise ValueError(f"tokens must be a multiple of patch, got {tokens} and {patch}")
    if made.config.positions == "learned" and tokens // patch > MAX_LEARNED:
        raise ValueError(f"learned positions end at {MAX_LEARNED} tokens, or patches, got {tokens // patch}")
    return made


def _config(size: str) -> ModelConfig:
    if size == SMALL.name:
        return SMALL
    path = Path(size)
    if not path.is_file():
        raise ValueError(f"no size {size!r}: give {SMALL.name}, or a config.json")
    try:
        return ModelConfig.loads(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no config.json, as it is no text: tracks are for --data") from error
    except ValueError as error:
        raise ValueError(f"{path} is no config.json of a model: {error}") from error


def _has(of: object, key: str) -> bool:
    return key in {field.name for field in fields(of)}  # type: ignore[arg-type]


def _known_fields(config: ModelConfig, batch: BatchOptions) -> set[str]:
    return {field.name for of in (config, batch) for field in fields(of)} | set(_RUN)


def _parse(key: str, value: str, like: Any) -> Any:
    """Returns the value in the type of `like`."""
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
