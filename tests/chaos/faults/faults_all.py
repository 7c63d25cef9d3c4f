"""The whole table, filled by its parts, and what of it the default selection has."""

from __future__ import annotations

import faults_of_atlases
import faults_of_disks
import faults_of_input
import faults_of_kafka
import faults_of_killpoints
import faults_of_logs
import faults_of_redis
import faults_of_states
import faults_of_strangers
import faults_of_weights
import faults_of_workers
from faults import FAULTS

PARTS = (
    faults_of_workers,
    faults_of_killpoints,
    faults_of_logs,
    faults_of_kafka,
    faults_of_redis,
    faults_of_states,
    faults_of_weights,
    faults_of_atlases,
    faults_of_strangers,
    faults_of_input,
    faults_of_disks,
)
# These run with both guarantees, and by default with the one that has a promise beside it (tests/README.md).
SELECTION = {
    "killed_after_publish": {
        "exactly_once": "a kill under load loses no ping, and shows a `read_committed` reader none twice",
    },
}

__all__ = ["FAULTS", "PARTS", "SELECTION"]
