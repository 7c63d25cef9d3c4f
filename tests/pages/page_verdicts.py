"""What becomes of each block of commands on each page: run here, run by another test, or not run, and why.

A block is named by its page and by how it begins. A new block without a line here fails tests/pages/test_pages.py.
Servers and folders of the pages (`localhost:9092`, `/srv/...`) are replaced in all of them (Scene.elsewhere); what else
differs from the page is in `changes`, and in what `before` and `around` return.
"""

from __future__ import annotations

import page_files as files
import page_operators as operators
import page_scenes as scenes
from page_runs import Elsewhere, Not, Run, Verdict

WORKER = {"pathcast worker": "ready: partitions"}
OURS = "is ours"  # a service has taken over a partition
UP = " parts are started; pings go to "
LOOKED_UP = "tests/pages/test_containers.py"
DOCKER = Not("needs a Docker engine, which CI has not: what it names", like=LOOKED_UP)
BY_HAND = Not("needs root and servers of its own: what was run by hand is in reports/bench.md")
API = Elsewhere("tests/system/api/test_serve.py")
RECIPE = Elsewhere("tests/system/client/test_recipes.py")
FILES = Elsewhere("tests/system/commands/files/test_page.py")
FUZZER = "python3.11 -m venv .venv\n.venv/bin/pip install -q -c deploy/constraints.txt -e '.[fuzz,train]'"
QUICK_START = Elsewhere("tests/system/ingest/test_quick_starts.py")

VERDICTS: dict[str, dict[str, Verdict]] = {
    "README.md": {
        "python3.11 -m venv .venv && .venv/bin/pip install -q -c deploy/constraints.txt -e '.[demo]'": Run(
            fresh=True,
            long=True,
            changes={"--seconds 60": "--seconds 10"},
            says=("compiling kernels", "forecasts out", "constant velocity"),
        ),
        ".venv/bin/pathcast try": Run(
            changes={"austin_day.csv.gz": "austin_buses.csv.gz --seconds 10 --no-map"},
            before=files.samples,
            says=("On your tracks", "nearer"),
        ),
        ".venv/bin/pathcast up": Run(
            before=files.samples,
            changes={"--speedup 60": "--speedup 0"},
            ready={".venv/bin/pathcast up": UP, ".venv/bin/pathcast tail": "10101"},
            says=("stopped; nothing is left running",),
        ),
        "python3.11 -m venv .venv && .venv/bin/pip install -q uv": Elsewhere(".ci/run"),
    },
    "CONTRIBUTING.md": {
        "python3.11 -m venv .venv\n": Run(fresh=True, long=True, makes=(".git/hooks/pre-commit",)),
    },
    "deploy/README.md": {"docker compose": DOCKER, "docker build": DOCKER},
    "deploy/PRIVACY.md": {
        "kafka-configs.sh": Run(
            before=operators.kafkas_tool,
            ready={"pathcast beside archive": OURS, "pathcast beside atlas": OURS, "pathcast beside latest": OURS},
            alone=True,
            says=("Completed updating config for topic",),
            after=operators.kept_for_a_day,
        ),
        "pathcast forget": Run(around=operators.bus_7, says=("removed",)),
    },
    "deploy/PRODUCTION.md": {
        "python3.11 -m venv /opt": BY_HAND,
        "/opt/pathcast/bin/pathcast dev topics": BY_HAND,
        "set -a": BY_HAND,
        "runuser -u pathcast": BY_HAND,
    },
    "deploy/SIZING.md": {
        "pathcast dev bench soak": Run(
            before=operators.own_tree,
            changes={"--entities 50000 --rate 1667 --seconds 600": "--entities 500 --rate 100 --seconds 60"},
            after=operators.recorded,
            long=True,
        )
    },
    "deploy/UPGRADES.md": {
        "docker compose": DOCKER,
        "helm diff": Not("needs a cluster: what it names, and the chart with the page's values", like=LOOKED_UP),
    },
    "deploy/helm/pathcast/README.md": {"docker build": DOCKER},
    "stream/README.md": {
        "pathcast beside": Run(before=files.recent_pings, ready={"pathcast beside": OURS}),
        "pathcast up": Run(
            before=files.last_month,
            ready={"pathcast up": UP},
            alone=True,
            says=("stopped; nothing is left running",),
        ),
    },
    "stream/registry/README.md": {
        "export PATHCAST_REGISTRY=s3": Run(before=scenes.registry, makes=("version.tar",)),
        "export PATHCAST_REGISTRY=/srv": Run(before=scenes.to_promote, ready=WORKER),
    },
    "stream/services/archive/README.md": {
        "pip install 'pathcast[readers]'": Run(
            before=files.recent_pings,
            ready={"pathcast beside archive": OURS},
            alone=True,
            changes={"pip install": "true", "--out runs/mine": "--out runs/mine --steps 1"},
            says=("nothing of it is stored again",),
            makes=("fleet.atlas", "runs/mine/model.safetensors"),
        ),
    },
    "stream/worker/README.md": {
        "pathcast worker --bootstrap kafka:9092": Run(
            ready=WORKER, changes={"--workers 4": "--workers 2"}, before=lambda _: scenes.ports("--metrics 9464")
        ),
        "export PATHCAST_KAFKA_PASSWORD_FILE": Run(around=operators.secured, ready=WORKER),
    },
    "stream/api/README.md": {
        "pathcast serve": Run(
            ready={"pathcast serve": "listening at http://"}, before=lambda _: scenes.ports("127.0.0.1:9480")
        ),
        "export API": API,
        'curl -sf -H "$AUTH" "$API/v1/entities/5007/forecast': API,
        'curl -sf -H "$AUTH" "$API/v1/entities/5007"': API,
        'curl -sf -H "$AUTH" "$API/v1/entities?bbox': API,
        'curl -sf -H "$AUTH" -H \'Content-Type: application/json\' "$API/v1/eta"': API,
        'curl -sf -H "$AUTH" -H \'Content-Type: application/json\' "$API/v1/gapfill"': API,
        "curl -sf -H \"$AUTH\" -H 'Content-Type: application/geo+json'": API,
        'curl -sf -H "$AUTH" "$API/gtfs-rt/trip-updates.pb"': API,
        "curl -sN": API,
        "TICKET=": API,
    },
    "stream/client/README.md": {
        "kcat": RECIPE,
        "npm install kafkajs": RECIPE,
        "mvn": RECIPE,
        "pathcast export redis": Run(around=scenes.other_redis, ready={"pathcast export": "forecasts read"}),
        "PGPASSWORD=... pathcast export postgis": Run(
            around=scenes.postgis, ready={"PGPASSWORD=... pathcast export": "forecasts read"}, says=("POINT(",)
        ),
        "pathcast export geojson": Run(
            before=files.exports, makes=("fleet.geojson", "moving.json"), says=("entity_id",)
        ),
    },
    "stream/contracts/README.md": {
        "pathcast dev contracts show": Run(before=scenes.released, makes=("schemas/asyncapi.yaml",)),
        "pathcast beside avro": Run(around=scenes.apicurio, ready={"pathcast beside avro": OURS}, alone=True),
        "pathcast beside latest": Run(before=files.forecasts, ready={"pathcast beside latest": OURS}),
    },
    "stream/commands/files/README.md": {
        "pathcast fill": FILES,
        "pathcast forecast fleet.csv": FILES,
        "pathcast train synth": FILES,
        "pathcast train atlas": FILES,
        "pathcast train refresh": FILES,
        "pathcast forecast history.csv": FILES,
        "pathcast dev topics --create": FILES,
    },
    "stream/ingest/README-feeds.md": {
        "export PATHCAST_BOOTSTRAP=localhost:9092 PATHCAST_REDIS=redis://localhost:6379/0\n"
        "pathcast dev topics --create\n"
        "pathcast worker &\npathcast ingest sample gtfs-rt": QUICK_START,
        "export PATHCAST_BOOTSTRAP=localhost:9092 PATHCAST_REDIS=redis://localhost:6379/0\n"
        "pathcast dev topics --create\n"
        "pathcast worker &\npathcast ingest sample ais": QUICK_START,
        "pathcast ingest gtfs-rt": Run(around=scenes.feeds, ready={"pathcast ingest": ": to "}, says=("pings",)),
        "pathcast ingest ais": Run(around=scenes.receiver, ready={"pathcast ingest ais": "ais: to "}),
        "pathcast ingest nmea": Run(
            around=scenes.gps,
            ready={"pathcast ingest nmea": "nmea: to "},
            # gpsd itself: test_gpsd_becomes_forecasts of tests/system/ingest/test_into_forecasts.py
            changes={"pathcast ingest gpsd": "# pathcast ingest gpsd"},
        ),
        "pathcast ingest files": Run(
            before=files.fleet_of_xy,
            ready={"pathcast ingest files /": "files: to "},
            changes={"gpspipe": "# gpspipe"},  # a sketch: its `...` stands for a program of jq
        ),
    },
    "stream/ingest/README.md": {
        "python3.11 -m venv": QUICK_START,
        "pathcast ingest presets": Run(
            before=scenes.webhook,
            ready={"pathcast ingest http": "listening at "},
            says=('"pings":1,"rejects":0', "flespi"),
        ),
        "pathcast ingest mqtt": Run(
            around=scenes.mosquitto,
            ready={"pathcast ingest mqtt": "connected to the MQTT broker"},
            # a broker with TLS and users: test_tls_and_passwords of tests/system/ingest/test_mqtt.py
            changes={"pathcast ingest mqtt --broker mqtt.example": "# pathcast ingest mqtt --broker mqtt.example"},
        ),
        "pathcast worker --map flespi": Run(before=scenes.flespi_records, ready=WORKER, makes=("forecasts.ndjson",)),
    },
    "stream/api/map/README.md": {
        "pathcast map": Run(
            before=lambda scene: (scene.folder / "srv" / "pathcast" / "atlases").mkdir(parents=True),
            ready={"pathcast map": "listening at http://"},
        ),
        "pmtiles extract": Not("needs a program and a host that are not ours"),
    },
    "stream/api/map/page/vendor/README.md": {
        "npm install": Run(before=operators.vendored, after=operators.same_coast, long=True),
    },
    "stream/services/arrivals/README.md": {
        "pathcast beside arrivals": Run(
            around=scenes.driving,
            ready={"pathcast beside arrivals": OURS, "pathcast tail arrivals": "depot-3"},
            says=("is to go to depot-3", "1 geofences", "is taken back"),
        ),
    },
    "stream/transit/README.md": {
        "pathcast up": Elsewhere("tests/system/demo/test_up.py"),
        "pathcast feed": Elsewhere("tests/system/demo/test_up.py"),
        "curl -sf": Elsewhere("tests/system/demo/test_up.py"),
        "pathcast transit replay": Elsewhere("tests/stream/commands/test_transit.py"),
        "pathcast evaluate": Elsewhere("tests/stream/transit/test_judging.py"),
        "pathcast beside transit": Elsewhere("tests/system/services/test_transit.py"),
    },
    "tests/simulation/README.md": {
        ".venv/bin/pytest -m simulation": Elsewhere("tests/simulation/test_worlds.py"),
    },
    "tests/README.md": {
        # that there are tests of these names and marks; CI runs all of them
        ".venv/bin/pytest      ": Run(
            before=operators.tests_here("--collect-only", "-q"), changes={" ...": ""}, long=True
        ),
        ".venv/bin/pytest tests/chaos --chaos-all": Run(before=operators.chaos_report, makes=("REPORT.md",), long=True),
        "python tests/stream/fuzz/fuzz_clean.py": Run(
            fresh=True,
            changes={
                "python tests/stream/fuzz/fuzz_clean.py 300": (
                    f"{FUZZER}\n.venv/bin/python tests/stream/fuzz/fuzz_clean.py 20"
                ),
                "python tests/stream/fuzz/fuzz_record.py 300": ".venv/bin/python tests/stream/fuzz/fuzz_record.py 20",
                "python tests/model/fuzz_state.py 300": ".venv/bin/python tests/model/fuzz_state.py 20",
            },
            long=True,
        ),
    },
    "train/README.md": {
        "pathcast evaluate": Run(
            before=files.trained_csv,
            ready=WORKER,
            changes={"--minutes 30": "--steps 1"},
            makes=("runs/mine/model.safetensors", "runs/wider/model.safetensors"),
        ),
        "pathcast train --data": Run(
            before=files.tracks("taxis.parquet"),
            changes={"--steps 3000": "--steps 1"},
            makes=("runs/sf/model.safetensors",),
        ),
        "pathcast train calibrate --weights small --data": Run(
            before=files.tracks("taxis.parquet"), makes=("runs/taxis/model.safetensors",)
        ),
        "pathcast train calibrate --weights small --from-topic": Run(
            before=lambda scene: files.recent_pings(scene) or {"pathcast.pings.v1": f"{scene.prefix}.pings.v1"}
        ),
        "pathcast train refresh --data": Run(
            before=files.tracks("week.parquet"),
            # 3 says that the challenger is not better, as it hardly is after so little
            changes={"--minutes 10 --out runs/monday": "--minutes 0.05 --out runs/monday || [ $? = 3 ]"},
            makes=("runs/monday/decision.json",),
        ),
        "pathcast train refresh --since": Run(
            before=scenes.serving_registry, ready={"pathcast train refresh": "a round every"}
        ),
    },
}
