"""Where the processes of several nodes meet: addresses, a free port, the first order."""

import json
import socket
import time
from pathlib import Path

import psutil

from e3mega.errors import JobError
from e3mega.plan.paths import RunPaths
from e3mega.plan.planfile import Plan, Role
from e3mega.rollout.whole_file import write_whole
from e3mega.run.board import Order
from e3mega.run.station import Station

LOOPBACK = "127.0.0.1"
_POLL_S = 0.2


def places_of_node(plan: Plan, paths: RunPaths, node: int, attempt: int) -> dict[str, str]:
    """What stands for ``{address}``, ``{learner_host}`` and ``{learner_port}`` on a node.

    The first of the learner's nodes chooses the port and produces its address file; the others
    wait for it. Raises JobError at the deadline, or when the interface has no address.
    """
    address = own_address(plan.cluster.interface) if plan.num_nodes > 1 else LOOPBACK
    places = {"{address}": address}
    nodes = [job.node for job in plan.jobs if job.role is Role.LEARNER]
    if len(nodes) < 2 or node not in nodes:
        return places
    meeting = paths.learner_address(attempt)
    if node == nodes[0]:
        text = json.dumps({"host": address, "port": free_port(address)})
        write_whole(meeting, text.encode())
    else:
        _wait_for(meeting, plan.cluster.node_deadline_s, f"node {node}", f"node {nodes[0]}")
    found = json.loads(meeting.read_text(encoding="utf-8"))
    return places | {"{learner_host}": found["host"], "{learner_port}": str(found["port"])}


def wait_for_order(plan: Plan, paths: RunPaths, station: Station) -> Order:
    """Node 0's first order to this launch; raises JobError at the deadline."""
    deadline_s = plan.cluster.node_deadline_s
    deadline = time.monotonic() + deadline_s
    while (order := station.board.order()) is None:
        if time.monotonic() > deadline:
            raise JobError(
                f"node {station.node} ({socket.gethostname()}) waited {deadline_s:g} s for node 0 "
                f"to begin the run (no order for it in {paths.order}); does node 0 see the same "
                "folder?"
            )
        time.sleep(_POLL_S)
    return order


def own_address(interface: str | None) -> str:
    """The IPv4 address by which other nodes reach this one.

    That of the interface if one is named, else of the host's name, else of the first interface
    that leads outward. Raises JobError when the interface is not there.
    """
    known = {
        name: [each.address for each in each_of if each.family is socket.AF_INET]
        for name, each_of in psutil.net_if_addrs().items()
    }
    if interface is not None:
        if not known.get(interface):
            names = ", ".join(name for name, addresses in known.items() if addresses)
            raise JobError(
                f"{socket.gethostname()} has no address on {interface}; set cluster.interface to "
                f"one of {names}"
            )
        return known[interface][0]
    try:
        named = socket.gethostbyname(socket.gethostname())
    except OSError:
        named = LOOPBACK
    outward = [a for addresses in known.values() for a in addresses if not a.startswith("127.")]
    return named if not named.startswith("127.") or not outward else outward[0]


def free_port(address: str) -> int:
    """A port of this machine's address that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind((address, 0))
        return int(probe.getsockname()[1])


def _wait_for(file: Path, deadline_s: float, who: str, whom: str) -> None:
    deadline = time.monotonic() + deadline_s
    while not file.exists():
        if time.monotonic() > deadline:
            raise JobError(f"{who} waited {deadline_s:g} s for {whom} to write {file}")
        time.sleep(_POLL_S)
