"""What an attempt ran with: the code and its changes, package versions, hosts and devices."""

import json
import os
import platform
import shutil
import subprocess
import sys
import time
from importlib.metadata import distributions
from pathlib import Path

import psutil

from e3mega import __version__
from e3mega.metrics import Json
from e3mega.plan.paths import RunPaths
from e3mega.rollout.whole_file import write_whole

_COMMAND_TIMEOUT_S = 20.0
_CHECKOUT = Path(__file__).resolve().parents[2]


def write_run_facts(paths: RunPaths, attempt: int) -> None:
    """Write the version of the code, its uncommitted changes and the packages' versions."""
    folder = paths.provenance(attempt)
    facts: dict[str, Json] = {
        "e3mega": __version__,
        "commit": _output("git", "-C", str(_CHECKOUT), "rev-parse", "HEAD").strip() or None,
        "python": sys.version,
        "executable": sys.executable,
        "packages": dict(sorted((each.name, each.version) for each in distributions())),
    }
    write_whole(folder / "code.json", _text(facts))
    write_whole(folder / "code.diff", _output("git", "-C", str(_CHECKOUT), "diff", "HEAD").encode())


def write_node_facts(paths: RunPaths, attempt: int, node: int) -> None:
    """Write what kind of machine a node is."""
    facts: dict[str, Json] = {
        "node": node,
        "host": platform.node(),
        "time": time.time(),
        "system": platform.platform(),
        "cpus": os.cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
        "shared_memory_bytes": shutil.disk_usage("/dev/shm").total,
        "disk_free_bytes": shutil.disk_usage(paths.run_dir).free,
        "gpus": list(gpu_names()),
    }
    write_whole(paths.provenance(attempt) / f"node_{node}.json", _text(facts))


def gpu_names() -> list[str]:
    """Name, memory and driver of each NVIDIA GPU, as nvidia-smi says; empty without any."""
    if shutil.which("nvidia-smi") is None:
        return []
    query = "--query-gpu=name,memory.total,driver_version"
    return _output("nvidia-smi", query, "--format=csv,noheader").splitlines()


def _output(*command: str) -> str:
    """What a command prints; empty when it fails or is not there."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_COMMAND_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""


def _text(facts: dict[str, Json]) -> bytes:
    return (json.dumps(facts, indent=2) + "\n").encode()
