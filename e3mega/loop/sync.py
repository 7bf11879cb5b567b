"""Brings the tier to the learner's weights and proves that it got there."""

import asyncio
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from e3mega.loop.jobs import Jobs
from e3mega.loop.scoring import score_sequences
from e3mega.plan.planfile import StagePlan
from e3mega.rollout.records import CommandKind
from e3mega.weights.canary import CanaryPair, canary_sequences, compare

NUM_CANARY_TOKENS = 512


@dataclass(slots=True)
class TierSync:
    """The version that the tier serves, and the canary's log-probabilities at it.

    Consumes the learner's weights, produces a tier that provably serves them; waits for the
    servers' start, the learner's send and both sides' scores.
    """

    jobs: Jobs
    version: int | None = None
    """Version that every server serves; None before the first sync."""
    previous: tuple[CanaryPair, ...] = ()
    """Per server, both sides' log-probabilities at the version before."""

    async def ensure(self, version: int, stage: StagePlan) -> None:
        """Return when every server serves ``version``, checked by name, checksum and canary.

        Raises JobError or SyncError naming the tensor or the token that disagrees.
        """
        if self.version == version:
            return
        generation = stage.generation
        with self.jobs.timed("server_wait_s"):
            await asyncio.gather(
                *(
                    server.wait_until_ready(generation.start_deadline_s)
                    for server in self.jobs.servers
                )
            )
        with self.jobs.timed("sync_s"):
            reply = await self.jobs.command(CommandKind.SYNC, version=version)
        self.jobs.metrics.write(
            "sync",
            version=version,
            seconds=reply.seconds,
            **(reply.steps[0] if reply.steps else {}),
        )
        with self.jobs.timed("canary_s"):
            await self._check(version, stage)
        self.version = version

    async def _check(self, version: int, stage: StagePlan) -> None:
        plan = self.jobs.plan
        sequences = canary_sequences(
            vocab_size=plan.model.vocab_size,
            seed=plan.seed,
            num_tokens=NUM_CANARY_TOKENS,
            max_sequence_tokens=min(plan.server.max_model_len, stage.budgets[-1].packed_tokens),
        )
        learner, *servers = await asyncio.gather(
            score_sequences(self.jobs, stage, sequences, name="canary", version=version),
            *(self._server_scores(index, sequences) for index in range(len(self.jobs.servers))),
        )
        pairs: list[CanaryPair] = []
        for index, scores in enumerate(servers):
            pair = CanaryPair(learner=np.concatenate(learner), server=np.concatenate(scores))
            result = compare(
                pair,
                self.previous[index] if self.previous else None,
                version=version,
                server=f"generation_{index}",
            )
            pairs.append(pair)
            self.jobs.metrics.write(
                "canary",
                version=version,
                server=index,
                num_tokens=result.num_tokens,
                max_abs_diff=result.max_abs_diff,
                max_abs_change=result.max_abs_change,
                max_abs_change_diff=result.max_abs_change_diff,
            )
        self.previous = tuple(pairs)

    async def _server_scores(
        self, index: int, sequences: tuple[tuple[int, ...], ...]
    ) -> list[NDArray[np.float32]]:
        server = self.jobs.servers[index]
        scores = await asyncio.gather(*(server.score(tokens) for tokens in sequences))
        return [np.asarray(values, dtype=np.float32) for values in scores]
