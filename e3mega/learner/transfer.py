"""The learner's end of the weight sync: connects to the servers and sends every version."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import torch

from e3mega.plan.paths import RunPaths
from e3mega.plan.planfile import Plan
from e3mega.rollout.whole_file import text_if_there

if TYPE_CHECKING:
    from e3mega.weights.engines.shared_memory import SharedMemoryTrainerEngine, SyncReport


class Source(Protocol):
    """The weights to send: HF-named tensors, None on ranks that do not get them."""

    def __iter__(self) -> Iterator[tuple[str, torch.Tensor | None]]:
        """Every tensor once; a collective of all ranks."""
        ...


@dataclass(frozen=True, slots=True)
class SyncOutcome:
    """What became of one sync. Example: ``SyncOutcome(None, {1: "generation_1: no address"})``."""

    report: "SyncReport | None"
    """None when no server took the weights."""
    lost: dict[int, str]
    """Replicas that did not take them, with the reason."""


class Transfer:
    """Sends the learner's weights to servers; lives on every rank, talks on world rank 0.

    It connects when it is first told to send to a set of servers, and again when one of them has
    moved: servers start beside the learner and may be started again.
    """

    def __init__(self, source: Source, plan: Plan, paths: RunPaths, *, is_main: bool) -> None:
        self._source = source
        self._is_main = is_main
        self._plan = plan
        self._paths = paths
        self._engine: SharedMemoryTrainerEngine | None = None
        self._connected: dict[int, str] = {}
        """The address files' text of the replicas that the engine talks to."""

    def send(self, version: int, servers: tuple[int, ...]) -> SyncOutcome | None:
        """One sync to these replicas, a collective of all ranks; None but on world rank 0.

        Raises SyncError naming the server and the tensor that is not installed as it was sent.
        """
        if not self._is_main:
            for _ in self._source:
                pass
            return None
        addresses = {replica: text_if_there(self._paths.address(replica)) for replica in servers}
        absent = {replica for replica, text in addresses.items() if not text}
        lost = {replica: f"generation_{replica}: it has no address" for replica in absent}
        present = {replica: text for replica, text in addresses.items() if text}
        if self._engine is None or present != self._connected:
            self._engine = self._connect(present)
            self._connected = present
        self._engine.version = version
        self._engine.send_weights()
        failed = self._engine.lost
        lost |= {r: failed[_name(r)] for r in present if _name(r) in failed}
        if failed:
            self._connected = {}
        return SyncOutcome(self._engine.report if len(lost) < len(servers) else None, lost)

    def _connect(self, addresses: dict[int, str]) -> "SharedMemoryTrainerEngine":
        # vLLM takes seconds to import, and only the rank that talks to it needs it.
        from vllm.distributed.weight_transfer.factory import WeightTransferTrainerFactory
        from vllm.plugins import load_general_plugins

        from e3mega.weights.engines.shared_memory import (
            FanOutClient,
            KeyedClient,
            SharedMemoryTrainerEngine,
            SharedMemoryTrainerInfo,
        )

        load_general_plugins()
        key = self._paths.key.read_text().strip()
        deadline_s = self._plan.stages[0].generation.sync_deadline_s
        clients: list[KeyedClient] = []
        for replica, text in addresses.items():
            address = json.loads(text)
            host, port = address["host"], address["port"]
            clients.append(KeyedClient(_name(replica), host, port, key=key, deadline_s=deadline_s))
        is_one_machine = self._plan.num_nodes == 1
        folder = self._paths.shared_memory if is_one_machine else self._paths.transfer
        info = SharedMemoryTrainerInfo(rank=0, folder=str(folder))
        # A WeightSource in all but its base class, so that other ranks do not load vLLM.
        source: Any = self._source
        engine = WeightTransferTrainerFactory.trainer_init(
            info, client=FanOutClient(clients), source=source
        )
        assert isinstance(engine, SharedMemoryTrainerEngine), "the info names the engine"
        return engine


def _name(replica: int) -> str:
    return f"generation_{replica}"
