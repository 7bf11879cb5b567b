"""Brings the tier to the learner's weights and proves that it got there."""

import asyncio
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from e3mega.errors import TierError
from e3mega.loop.jobs import Jobs
from e3mega.loop.scoring import score_sequences
from e3mega.loop.tier import Replica, ReplicaState
from e3mega.plan.planfile import StagePlan
from e3mega.rollout.records import CommandKind
from e3mega.weights.canary import CanaryPair, canary_sequences, check_finite, compare

NUM_CANARY_TOKENS = 512

Sequences = tuple[tuple[int, ...], ...]


class TierSync:
    """The version that the tier serves, and the canary's log-probabilities at it.

    Consumes the learner's weights, produces a tier that provably serves them; waits for the
    servers' start, the learner's send and both sides' scores. A server that joins late, or again,
    is brought to the tier's version before its first request.
    """

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs
        self.version: int | None = None
        """Version that the tier serves; None before the first sync."""
        self._canary: Sequences = ()
        self._learner_scores: NDArray[np.float32] = np.zeros(0, dtype=np.float32)
        self._pairs: dict[int, CanaryPair] = {}
        """Both sides' log-probabilities at the tier's version, by replica."""
        self._turn = asyncio.Lock()
        jobs.tier.on_ready = self._join

    async def ensure(self, version: int, stage: StagePlan) -> None:
        """Return when the tier serves ``version``, checked by name, checksum and canary.

        Servers that fail meanwhile are left out; one is enough. Raises JobError, TierError when
        none is left, or SyncError naming the tensor or the token that disagrees.
        """
        if self.version == version:
            return
        tier = self._jobs.tier
        tier.open()
        async with self._turn:
            while True:
                with self._jobs.timed("server_wait_s"):
                    await tier.wait_for_any()
                answering = tier.answering()
                losses = {replica.index: replica.is_lost for replica in answering}
                with self._jobs.timed("sync_s"):
                    replicas = await self._send(version, answering)
                with self._jobs.timed("canary_s"):
                    await self._score_canary(version, stage)
                    replicas = await self._check(version, replicas)
                # A process that ended meanwhile may have passed its check before.
                replicas = [r for r in replicas if not losses[r.index].is_set()]
                if replicas:
                    break
            self.version = version
            await tier.serve(replicas)

    async def _join(self, replica: Replica) -> None:
        """Bring one replica to the tier's version, if the learner still has it.

        Else the next ``ensure`` does, for it sends to every replica that answers.
        """
        jobs = self._jobs
        async with self._turn:
            if self.version is None or replica.state is not ReplicaState.READY:
                return
            is_lost = replica.is_lost
            async with jobs.learner_turn():
                if jobs.learner_version != self.version:
                    return
                replicas = await self._send(self.version, [replica], has_turn=True)
            self._pairs.pop(replica.index, None)
            if await self._check(self.version, replicas) and not is_lost.is_set():
                await jobs.tier.admit(replica)

    async def _send(
        self, version: int, replicas: Sequence[Replica], *, has_turn: bool = False
    ) -> list[Replica]:
        """Have the learner send its weights; the replicas that took them."""
        command = self._jobs.send if has_turn else self._jobs.command
        servers = tuple(replica.index for replica in replicas)
        reply = await command(CommandKind.SYNC, version=version, servers=servers)
        self._jobs.metrics.write(
            "sync",
            version=version,
            seconds=reply.seconds,
            servers=list(servers),
            **(reply.steps[0] if reply.steps else {}),
        )
        for replica in replicas:
            if replica.index in reply.lost_servers and replica in self._jobs.tier.answering():
                self._jobs.tier.lose(replica, reply.lost_servers[replica.index])
        return [replica for replica in replicas if replica.index not in reply.lost_servers]

    async def _score_canary(self, version: int, stage: StagePlan) -> None:
        """The learner's scores of the canary at this version."""
        plan = self._jobs.plan
        self._canary = canary_sequences(
            vocab_size=plan.model.vocab_size,
            seed=plan.seed,
            num_tokens=NUM_CANARY_TOKENS,
            max_sequence_tokens=min(plan.server.max_model_len, stage.budgets[-1].packed_tokens),
        )
        scores = await score_sequences(
            self._jobs, stage, self._canary, name="canary", version=version
        )
        self._learner_scores = np.concatenate(scores)
        check_finite(self._learner_scores, version=version)

    async def _check(self, version: int, replicas: Sequence[Replica]) -> list[Replica]:
        """Compare the replicas' scores of the canary with the learner's; those that answered."""
        scores = await asyncio.gather(*(self._scores(replica) for replica in replicas))
        checked: list[Replica] = []
        for replica, values in zip(replicas, scores, strict=True):
            if values is None:
                continue
            pair = CanaryPair(learner=self._learner_scores, server=values)
            result = compare(
                pair,
                self._pairs.get(replica.index),
                version=version,
                server=f"generation_{replica.index}",
            )
            self._pairs[replica.index] = pair
            checked.append(replica)
            self._jobs.metrics.write(
                "canary",
                version=version,
                server=replica.index,
                num_tokens=result.num_tokens,
                max_abs_diff=result.max_abs_diff,
                max_abs_change=result.max_abs_change,
                max_abs_change_diff=result.max_abs_change_diff,
            )
        return checked

    async def _scores(self, replica: Replica) -> NDArray[np.float32] | None:
        """The replica's scores of the canary; None when it was lost."""
        work = asyncio.gather(*(replica.server.score(tokens) for tokens in self._canary))
        try:
            scores = await work
        except TierError as error:
            if replica.state is not ReplicaState.STARTING:
                self._jobs.tier.lose(replica, str(error))
            return None
        return np.concatenate([np.asarray(values, dtype=np.float32) for values in scores])
