"""The learner's end of the weight sync: connects to the servers and sends every version."""

import json
from typing import TYPE_CHECKING, Any

from e3mega.errors import SyncError
from e3mega.mcore.build import LearnerModel
from e3mega.plan.paths import RunPaths
from e3mega.plan.planfile import Plan
from e3mega.weights.source import MegatronWeightSource

if TYPE_CHECKING:
    from e3mega.weights.engines.shared_memory import SharedMemoryTrainerEngine, SyncReport


class Transfer:
    """Sends the learner's weights to all servers; lives on every rank, talks on world rank 0.

    It connects at the first send, since the servers start beside the learner: the loop asks for
    a sync only when all of them answer.
    """

    def __init__(self, learner: LearnerModel, plan: Plan, paths: RunPaths) -> None:
        self._source = MegatronWeightSource(learner)
        self._is_main = learner.grid.is_main
        self._plan = plan
        self._paths = paths
        self._engine: SharedMemoryTrainerEngine | None = None

    def send(self, version: int) -> "SyncReport | None":
        """One sync, a collective of all ranks; the report is None but on world rank 0.

        Raises SyncError naming the server and the tensor that is not installed as it was sent.
        """
        if not self._is_main:
            for _ in self._source:
                pass
            return None
        self._engine = self._engine or self._connect()
        self._engine.version = version
        self._engine.send_weights()
        return self._engine.report

    def _connect(self) -> "SharedMemoryTrainerEngine":
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
        clients = [
            KeyedClient(f"generation_{replica}", host, port, key=key, deadline_s=self._deadline_s)
            for replica, (host, port) in enumerate(self._addresses())
        ]
        info = SharedMemoryTrainerInfo(rank=0, folder=str(self._paths.shared_memory))
        # A WeightSource in all but its base class, so that other ranks do not load vLLM.
        source: Any = self._source
        engine = WeightTransferTrainerFactory.trainer_init(
            info, client=FanOutClient(clients), source=source
        )
        assert isinstance(engine, SharedMemoryTrainerEngine), "the info names the engine"
        return engine

    @property
    def _deadline_s(self) -> float:
        return self._plan.stages[0].generation.sync_deadline_s

    def _addresses(self) -> list[tuple[str, int]]:
        found: list[tuple[str, int]] = []
        for replica in range(self._plan.layout.generation.num_replicas):
            path = self._paths.address(replica)
            if not path.exists():
                raise SyncError(f"generation_{replica}: {path} is not there; see its log")
            address = json.loads(path.read_text())
            found.append((address["host"], address["port"]))
        return found
