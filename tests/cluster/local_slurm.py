"""A real Slurm with two nodes on this machine, in a folder of its own, ended with the test."""

import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel")
NODES = ("n1", "n2")
PARTITIONS = {
    "batch": "Default=YES PriorityTier=1 GraceTime=60",
    "urgent": "PriorityTier=9 PreemptMode=OFF",
}
"""Jobs of ``urgent`` preempt those of ``batch``."""
_DEADLINE_S = 60.0

CONFIGURATION = """\
ClusterName=e3mega
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.sock,cred_expire=5
SlurmctldPort={ports[0]}
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmdSpoolDir={folder}/spool.%n
StateSaveLocation={folder}/state
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
MpiDefault=none
SchedulerParameters=bf_interval=1,sched_interval=1,sched_min_interval=0
MinJobAge=300
OverTimeLimit=0
KillWait=30
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmctldParameters=preempt_send_user_signal
"""


def missing_programs() -> list[str]:
    """Programs of Slurm and munge that are not installed."""
    return [name for name in PROGRAMS if _program(name) is None]


def _program(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")


class LocalSlurm:
    """Daemons with their own ports, key and socket; ``environment`` is what clients need."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._daemons: list[subprocess.Popen[bytes]] = []
        self._configuration = folder / "slurm.conf"
        self.environment = {**os.environ, "SLURM_CONF": str(self._configuration)}

    def start(self) -> None:
        """Start munge, the controller and both nodes; returns when the nodes are idle."""
        folder, ports = self._folder, _free_ports(3)
        for name in ("state", *(f"spool.{node}" for node in NODES)):
            (folder / name).mkdir()
        key = folder / "munge.key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o400)
        host, user = socket.gethostname().split(".")[0], _user()
        text = CONFIGURATION.format(folder=folder, host=host, user=user, ports=ports)
        for node, port in zip(NODES, ports[1:], strict=True):
            text += f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=2\n"
        for name, more in PARTITIONS.items():
            text += f"PartitionName={name} Nodes={','.join(NODES)} MaxTime=INFINITE {more}\n"
        self._configuration.write_text(text)
        files = {"key": key, "socket": folder / "munge.sock", "pid": folder / "munged.pid"}
        self._daemon(
            "munged",
            *("--foreground", "--force", f"--key-file={files['key']}"),
            *(f"--socket={files['socket']}", f"--pid-file={files['pid']}"),
            *(f"--log-file={folder / 'munged.log'}", f"--seed-file={folder / 'munge.seed'}"),
        )
        _wait_until(files["socket"].exists, "munge listens")
        self._daemon("slurmctld", "-D")
        for node in NODES:
            self._daemon("slurmd", "-D", "-N", node)
        _wait_until(lambda: self.run("sinfo", "-h", "-o", "%D %t").split() == ["2", "idle"], "idle")

    def stop(self) -> None:
        """Cancel what runs and end the daemons."""
        self.run("scancel", "--user", _user())
        deadline = time.monotonic() + _DEADLINE_S
        while self.run("squeue", "-h") and time.monotonic() < deadline:
            time.sleep(0.2)
        for daemon in reversed(self._daemons):
            daemon.terminate()
        for daemon in self._daemons:
            try:
                daemon.wait(10)
            except subprocess.TimeoutExpired:
                daemon.kill()

    def run(self, *command: str) -> str:
        """What a client prints; empty when it fails."""
        done = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, timeout=60, check=False
        )
        return done.stdout.strip() if done.returncode == 0 else ""

    def _daemon(self, name: str, *arguments: str) -> None:
        program = _program(name)
        assert program is not None, name
        with (self._folder / f"{name}{len(self._daemons)}.out").open("wb") as output:
            self._daemons.append(
                subprocess.Popen(
                    [program, *arguments],
                    env=self.environment,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                )
            )


def _user() -> str:
    return subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()


def _free_ports(count: int) -> list[int]:
    probes = [socket.socket() for _ in range(count)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


def _wait_until(condition, what: str) -> None:
    deadline = time.monotonic() + _DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, f"Slurm: waited in vain until {what}"
        time.sleep(0.1)
