"""The record of stages that a run did not train itself, because another run had."""

from dataclasses import dataclass

from pydantic import TypeAdapter

from e3mega.plan.paths import RunPaths
from e3mega.rollout.ledger import Ledger
from e3mega.rollout.whole_file import write_whole


@dataclass(frozen=True, slots=True)
class SharedStages:
    """The stages of a run that another run trained.

    Example: ``SharedStages("runs/base", "base", "ab12…", 310, ("warmup",), {"warmup": Ledger()})``.
    """

    run_dir: str
    """The run that trained them."""
    name: str
    run_fingerprint: str
    version: int
    """Optimizer steps that the weights contained at their end."""
    stages: tuple[str, ...]
    """Names in this run, in order."""
    ledgers: dict[str, Ledger]
    """What the other run spent on each; this run spends none of it."""


_ADAPTER = TypeAdapter(SharedStages)


def write_shared(paths: RunPaths, shared: SharedStages) -> None:
    """Write a run's shared_stages.json."""
    write_whole(paths.shared_stages, _ADAPTER.dump_json(shared, indent=2) + b"\n")


def read_shared(paths: RunPaths) -> SharedStages | None:
    """What a run shares with another; None when it trained all its stages itself."""
    path = paths.shared_stages
    return _ADAPTER.validate_json(path.read_bytes()) if path.exists() else None
