"""Workers with a registry of weights, and what decides which of them serve. Tests import this; it tests nothing
itself."""

from __future__ import annotations

import asyncio
import json
import subprocess
from pathlib import Path
from typing import Any, Final, NamedTuple

import typer
from atlas_scene import Scene
from pathcast_process import environment, pathcast
from typer.testing import CliRunner

from model.api import weights_folder
from stream.registry import About, Registry
from stream.registry.golden import make_golden
from stream.verify.cli import verify
from stream.versions.announcement_reader import AnnouncementReader
from stream.versions.announcing import Announcer
from stream.versions.deciding import Decider, Why
from stream.versions.weights import WeightsLedger

WHY: Final = Why("the test says so", "test")
LEAD_S: Final = 1.0
# In this process, as it is asked several times. That it is a command, too, tests/chaos shows.
APP: Final = typer.Typer(pretty_exceptions_enable=False)
APP.command()(verify)


class WeightsScene(NamedTuple):
    scene: Scene
    registry: Registry

    @classmethod
    def made(cls, kafka: str, redis_url: str, prefix: str, folder: Path) -> WeightsScene:
        """With topics, and an empty registry within this folder."""
        scene, url = Scene.made(kafka, redis_url, prefix, folder), str(folder / "registry")
        del scene.options["atlases"]
        scene.options["registry"] = url
        return cls(scene, Registry.open(url))

    def publish(self, weights: str | Path, parent: str | None = None) -> str:
        """Publishes weights, by bundled name or folder; returns their version."""
        return self.registry.publish_weights(
            weights_folder(weights), About(parent=parent), make_golden(weights)
        ).version

    def decide(self, what: str, *args: Any, **more: Any) -> None:
        """Calls this method of a Decider."""

        async def decided() -> None:
            scene = self.scene
            async with Announcer.open(scene.kafka, scene.topics, lead_s=LEAD_S, sample_s=0.3) as announcer:
                await getattr(Decider(self.registry, announcer), what)(*args, **more)

        asyncio.run(decided())

    def ledger(self) -> WeightsLedger:
        async def heard() -> WeightsLedger:
            async with AnnouncementReader.open(self.scene.kafka, self.scene.topics) as announcements:
                await announcements.look()
                return announcements.weights

        return asyncio.run(heard())

    def decisions(self) -> list[tuple[str, str, str | None]]:
        """What was decided, of which version, and instead of which."""
        return [(one.what, one.version, one.instead_of) for one in self.registry.decisions()]

    def told(self, *command: object) -> subprocess.CompletedProcess[bytes]:
        """Runs a command of `pathcast` here."""
        scene = self.scene
        ours = environment(PATHCAST_BOOTSTRAP=scene.kafka, PATHCAST_PREFIX=scene.prefix)
        ours |= {"PATHCAST_REGISTRY": str(scene.options["registry"]), "PATHCAST_LEAD_S": str(LEAD_S)}
        return pathcast(*command, env=ours)

    def scored_and_judged(self) -> str:
        """What the guard says of what was scored."""
        scored = self.told("beside", "scores", "--once")
        assert scored.returncode == 0, scored.stderr
        guard = self.told("beside", "guard", "--once")
        assert guard.returncode == 0, guard.stderr
        return guard.stderr.decode()

    def verified(self, delivery: str) -> dict[str, Any]:
        """The report as JSON; its exit code must agree with it."""
        names = ("bootstrap", "prefix", "group", "weights", "redis", "registry")
        options = [f"--{name}={self.scene.options[name]}" for name in names]
        run = CliRunner().invoke(APP, [*options, "--json", f"--delivery={delivery}"])
        assert run.stdout, repr(run.exception)
        report: dict[str, Any] = json.loads(run.stdout)
        assert run.exit_code == (0 if report["ok"] else 1)
        return report
