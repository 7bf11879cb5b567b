"""Names what a run and a stage are by a digest of all that decides their outcome."""

import hashlib
import json

from e3mega.metrics import Json
from e3mega.spec.schema.curriculum import StageMode
from e3mega.spec.schema.run import RunOptions

UNCOVERED = ("name", "logging", "cluster", "estimates")
"""Keys of a run that do not change what it computes."""


def run_fingerprint(options: RunOptions) -> str:
    """SHA-256 of everything but the name, the logging and the cluster, as 64 hex digits."""
    tree = options.model_dump(mode="json")
    return _digest({key: value for key, value in tree.items() if key not in UNCOVERED})


def stage_fingerprints(options: RunOptions) -> tuple[str, ...]:
    """One digest per stage in order; runs may share the stages whose digests agree.

    A digest covers seed, model, learner layout, the stage with its sections, for an RL stage the
    generation tier, and the digest of the stage before.
    """
    before = ""
    found: list[str] = []
    for name in options.curriculum.order:
        stage = options.curriculum.stages[name]
        covered: dict[str, Json] = {
            "before": before,
            "seed": options.seed,
            "model": options.model.model_dump(mode="json"),
            "learner": stage.layout.learner.model_dump(mode="json"),
            "stage": stage.model_dump(mode="json", exclude={"generation", "layout", "caps"}),
        }
        if stage.mode is StageMode.RL:
            covered["generation"] = stage.generation.model_dump(mode="json")
            covered["tier"] = options.layout.generation.model_dump(mode="json")
        before = _digest(covered)
        found.append(before)
    return tuple(found)


def _digest(tree: dict[str, Json]) -> str:
    """SHA-256 of the canonical JSON: sorted keys, no spaces, floats as their shortest text."""
    text = json.dumps(tree, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()
