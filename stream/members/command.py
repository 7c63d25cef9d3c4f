"""Makes one command of several services, each of which offers its options: `pathcast beside`.

An offer is a function of `ServiceOptions` and of the service's own options, and returns a `Service`. An option whose
word alone would not say of which service it is begins with the service's name, as `--latest-group`. A parameter that
several offers have, such as `map_`, is one option of all of them.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from inspect import Parameter, Signature, signature
from typing import Annotated, Any, NamedTuple, get_args

import typer
from typer.models import OptionInfo

from stream.config import failpoints
from stream.config.options import COMMON, Bootstrap, Metrics, Prefix, log_to_stderr, with_common
from stream.config.security import PLAIN_KAFKA, KafkaSecurity
from stream.members.running import Service, door_of, name_lines, serve

Once = Annotated[bool, typer.Option("--once", help="up to the present end, and stop")]


class ServiceOptions(NamedTuple):
    """Holds the values of the options that all services have."""

    bootstrap: str
    prefix: str
    once: bool
    kafka: KafkaSecurity


Offer = Callable[..., Service]


def build_command(offers: Mapping[str, Offer]) -> Callable[..., None]:
    """Returns the command that runs the services that are named, in one process."""

    def beside(context: typer.Context, names: str, **given: Any) -> None:
        chosen = _choose(names, offers)
        for name in dict.fromkeys(one.name for offer in offers.values() for one in _own(offer)):
            owners = [owner for owner, offer in offers.items() if name in signature(offer).parameters]
            if _is_given(context, name) and not {*owners} & {*chosen}:
                raise typer.BadParameter(
                    f"it is for {' and '.join(owners)}, which is not named", param_hint=_flag_in(context, name)
                )
        for owner in chosen:
            for one in _own(offers[owner]):
                if one.default is Parameter.empty and given[one.name] is None:
                    raise typer.BadParameter(f"{owner} needs it", param_hint=_flag_in(context, one.name))
        _run({owner: offers[owner] for owner in chosen}, given)

    parameters: dict[str, Parameter] = {}
    for owner, offer in offers.items():
        for one in _own(offer):
            parameters[one.name] = _optional(one, None if one.name in parameters else owner)
    named = typer.Argument(metavar="NAME[,NAME...]", help=", ".join(offers))
    return _command(beside, [_parameter("names", Annotated[str, named]), *parameters.values()])


def _command(run: Callable[..., None], own: Sequence[Parameter]) -> Callable[..., None]:
    parameters = [
        _parameter("context", typer.Context),
        _parameter("bootstrap", Bootstrap, COMMON.bootstrap),
        _parameter("prefix", Prefix, COMMON.prefix),
        _parameter("once", Once, default=False),
        _parameter("metrics", Metrics, ""),
        *own,
        _parameter("security", KafkaSecurity, PLAIN_KAFKA),
    ]
    run.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
    return with_common(run)


def _run(offers: Mapping[str, Offer], given: Mapping[str, Any]) -> None:
    failpoints.arm(os.environ.get(failpoints.VARIABLE, ""))
    common = ServiceOptions(given["bootstrap"], given["prefix"], given["once"], given["security"])
    services = [offer(common, **{one.name: given[one.name] for one in _own(offer)}) for offer in offers.values()]
    log_to_stderr()
    if len(services) > 1:
        name_lines()
    asyncio.run(serve(services, door_of(given["metrics"])))


def _choose(names: str, offers: Mapping[str, Offer]) -> list[str]:
    chosen = list(dict.fromkeys(name.strip() for name in names.split(",") if name.strip()))
    if unknown := [name for name in chosen if name not in offers]:
        raise typer.BadParameter(f"no such service: {unknown[0]} (there are {', '.join(offers)})", param_hint="NAME")
    if not chosen:
        raise typer.BadParameter(f"name a service (there are {', '.join(offers)})", param_hint="NAME")
    return chosen


def _own(offer: Offer) -> list[Parameter]:
    """Returns the parameters of an offer beside `ServiceOptions`."""
    return list(signature(offer, eval_str=True).parameters.values())[1:]


def _parameter(name: str, annotation: Any, default: Any = Parameter.empty) -> Parameter:
    return Parameter(name, Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _flags(parameter: Parameter) -> list[str]:
    """Returns the names of a parameter's option; none, if `with_common` has options in its place."""
    info = _info(parameter)
    # typer.Option takes the first name for a default.
    return [] if info is None else [str(info.default), *(info.param_decls or ())]


def _info(parameter: Parameter) -> OptionInfo | None:
    return next((one for one in get_args(parameter.annotation) if isinstance(one, OptionInfo)), None)


def _change(parameter: Parameter, flags: Sequence[str], **attributes: Any) -> Parameter:
    """Returns a parameter whose option has these names, and these attributes."""
    if (before := _info(parameter)) is None:
        return parameter.replace(kind=Parameter.KEYWORD_ONLY)
    info = copy(before)
    info.default, info.param_decls = flags[0], tuple(flags[1:])
    for name, value in attributes.items():
        setattr(info, name, value)
    kind, *more = (info if one is before else one for one in get_args(parameter.annotation))
    return parameter.replace(annotation=Annotated[kind, *more], kind=Parameter.KEYWORD_ONLY)


def _optional(parameter: Parameter, panel: str | None) -> Parameter:
    """Returns a parameter with a panel of the help, that may be absent, as it is if its service is not named."""
    info, is_needed = _info(parameter), parameter.default is Parameter.empty
    text = "" if info is None else info.help
    changed = _change(
        parameter, _flags(parameter), rich_help_panel=panel, help=f"{text}; required" if is_needed else text
    )
    return changed.replace(default=None) if is_needed else changed


def _is_given(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _flag_in(context: typer.Context, name: str) -> str:
    return next(one.opts[0] for one in context.command.params if one.name == name)
