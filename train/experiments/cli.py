"""`pathcast train experiment NAME|all`: runs an experiment, shows its progress, writes its report. Heavy imports wait
for the call.
"""

from __future__ import annotations

import importlib
import shlex
import tempfile
import time
import traceback
from pathlib import Path
from typing import Annotated

import typer

from stream.adapters.options import Columns
from train.data.options import CacheOption, Files, MoreFiles, sources_of

# The question of each, in the order of `all`. The module train.experiments.questions.<name> has `run(lab) -> Finding`.
EXPERIMENTS = {
    "autoencoder": "do the features invert to the coordinates?",
    "overfit": "can one track be learned to near zero loss?",
    "masking": "next-step against each masking strategy, and all of them, on three tasks",
    "targets": "deltas against absolute coordinates",
    "positions": "no positions, learned, sinusoidal, RoPE, time-RoPE, on long sequences",
    "regions": "continuous coordinates against discrete regions",
    "patching": "latency and memory against reconstruction error at a high rate",
    "transfer": "trained on some regions, tested on another, untouched",
}

HELP = """Rerun one of the experiments, or all of them, and write a dated report with table, picture and conclusion.

Of all, one that fails is named with its reason, and the others are run.

[bold]Experiments[/]

""" + "\n\n".join(f"  {name}: {what}" for name, what in EXPERIMENTS.items())


def experiment(
    name: Annotated[str, typer.Argument(metavar="NAME|all", help="which one")],
    data: Files,
    more: MoreFiles = None,
    columns: Columns = None,
    out: Annotated[Path, typer.Option("--out", file_okay=False, help="where the report goes")] = Path("reports"),
    effort: Annotated[float, typer.Option("--effort", min=0.001, help="times the steps of each training")] = 1.0,
    seed: Annotated[int, typer.Option("--seed", min=0)] = 0,
    threads: Annotated[int, typer.Option("--threads", min=1, help="of the process")] = 1,
    cache: CacheOption = None,
) -> None:
    if name != "all" and name not in EXPERIMENTS:
        raise typer.BadParameter(f"{name!r} is none of {', '.join(EXPERIMENTS)}, all")
    files = tuple(sources_of(data, more, columns))
    from train.evaluation.plots import require_matplotlib
    from train.experiments.lab.lab import Lab
    from train.experiments.lab.report import describe_code, write_report

    require_matplotlib()  # every report has a picture, which is drawn after hours of training
    code = describe_code()  # before hours of training, during which the checkout may change

    def conduct(chosen: str) -> None:
        started, started_cpu = time.monotonic(), time.process_time()

        def say(line: str) -> None:
            typer.echo(f"{chosen} {time.monotonic() - started:6.0f} s  {line}", err=True)

        with tempfile.TemporaryDirectory(prefix="pathcast-experiment-") as scratch:
            lab = Lab(files, Path(scratch), effort=effort, seed=seed, threads=threads, cache=cache, say=say)
            finding = importlib.import_module(f"train.experiments.questions.{chosen}").run(lab)
        command = f"pathcast train experiment {chosen} --data {' '.join(file.name for file in files)}"
        command += "" if columns is None else f" --columns {shlex.quote(columns)}"
        command += f" --effort {effort:g}" if effort != 1.0 else ""
        command += f" --seed {seed}" if seed else ""
        command += f" --threads {threads}" if threads > 1 else ""
        path = write_report(
            finding, chosen, command, out, cpu_s=time.process_time() - started_cpu, cores=threads, code=code
        )
        typer.echo(f"{path}: {finding.conclusion}")

    if name != "all":
        conduct(name)
        return
    failed = []
    for chosen in EXPERIMENTS:
        try:
            conduct(chosen)
        except Exception as error:  # also bugs of ours: the other experiments may have run for hours
            failed.append(chosen)
            if not isinstance(
                error, (OSError, ValueError, RuntimeError)
            ):  # errors that a user can cause (stream.commands.main)
                traceback.print_exc()
            typer.echo(f"{chosen} failed: {' '.join(str(error).split()) or type(error).__name__}", err=True)
    if failed:
        raise RuntimeError(f"no report of {', '.join(failed)}; the reason of each is said above")


experiment.__doc__ = HELP
