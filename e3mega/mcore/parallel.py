"""Sets up and tears down Megatron-Core's global parallel state."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from megatron.core import parallel_state
from megatron.core.process_groups_config import ProcessGroupCollection

from e3mega.device import CPU, ProcessRank, collective_backend, torch_device_type
from e3mega.errors import JobError
from e3mega.families.mapping import Weight
from e3mega.mcore import cpu
from e3mega.plan.topology import GridPlace, num_learner_ranks, rank_grid
from e3mega.spec.schema.layout import Device, LearnerLayout

_COLLECTIVE_TIMEOUT = timedelta(minutes=10)
_IDLE_TIMEOUT = timedelta(days=30)
"""Ranks wait in the control group while the tier generates; a dead peer ends that wait at once."""


@dataclass(frozen=True, slots=True)
class RankGrid:
    """This rank's place in the grid, and the groups it talks to."""

    process: ProcessRank
    device: torch.device
    layout: LearnerLayout
    place: GridPlace
    groups: ProcessGroupCollection
    control: dist.ProcessGroup
    """All ranks, over gloo, for objects; waits as long as the peers live."""

    @property
    def is_first_stage(self) -> bool:
        """Whether this rank holds the embedding."""
        return self.place.pp_rank == 0

    @property
    def is_last_stage(self) -> bool:
        """Whether this rank computes log-probabilities and the loss."""
        return self.place.pp_rank == self.layout.pp - 1

    @property
    def is_main(self) -> bool:
        """Whether this is world rank 0, which talks to the loop and the servers."""
        return self.process.world_rank == 0

    def shard_of(self, weight: Weight) -> tuple[int, int]:
        """Which of how many shards of a weight this rank holds, if it holds any."""
        if weight.expert is not None:
            return self.place.expert_tp_rank, self.layout.expert_tp
        return self.place.tp_rank, self.layout.tp


def init_parallel(
    layout: LearnerLayout, process: ProcessRank, *, init_method: str = "env://"
) -> RankGrid:
    """Join the job's process group and build Megatron-Core's parallel state; all ranks call it.

    ``init_method`` is torch's: ``env://`` under torchrun, ``file://...`` for forked ranks. Raises
    JobError when the number of ranks is not the grid's.
    """
    size = num_learner_ranks(layout)
    if process.world_size != size:
        raise JobError(
            f"learner: {process.world_size} ranks were started, but layout.learner is tp "
            f"{layout.tp} x cp {layout.cp} x dp {layout.dp} x pp {layout.pp} = {size}; start "
            f"{size} ranks"
        )
    device_type = torch_device_type(layout.device is Device.GPU)
    if device_type == CPU:
        cpu.install()
        device = torch.device(device_type)
    else:
        device = torch.device(device_type, process.local_rank)
        torch.accelerator.set_device_index(process.local_rank)
    torch.set_num_threads(layout.threads_per_rank)
    torch.use_deterministic_algorithms(layout.is_deterministic)
    # Only operations that read what they did not write would see the difference.
    deterministic: Any = torch.utils.deterministic
    deterministic.fill_uninitialized_memory = False
    dist.init_process_group(
        collective_backend(device_type),
        init_method=init_method,
        rank=process.world_rank,
        world_size=size,
        timeout=_COLLECTIVE_TIMEOUT,
    )
    parallel_state.initialize_model_parallel(
        tensor_model_parallel_size=layout.tp,
        pipeline_model_parallel_size=layout.pp,
        virtual_pipeline_model_parallel_size=num_interleaved(layout),
        context_parallel_size=layout.cp,
        expert_model_parallel_size=layout.ep,
        expert_tensor_parallel_size=layout.expert_tp,
        distributed_timeout_minutes=_COLLECTIVE_TIMEOUT.seconds // 60,
        create_gloo_process_groups=False,
    )
    cpu.name_generators()
    control = dist.new_group(timeout=_IDLE_TIMEOUT, backend=collective_backend(CPU))
    assert isinstance(control, dist.ProcessGroup), "every rank is a member of the control group"
    place = rank_grid(layout)[process.world_rank]
    assert place == _megatrons_place(process), "the plan's order of ranks is Megatron's"
    groups = ProcessGroupCollection.use_mpu_process_groups()
    return RankGrid(process, device, layout, place, groups, control)


def num_interleaved(layout: LearnerLayout) -> int | None:
    """Chunks of each pipeline rank as Megatron takes them: None where stages are whole."""
    return layout.chunks_per_stage if layout.chunks_per_stage > 1 else None


def _megatrons_place(process: ProcessRank) -> GridPlace:
    return GridPlace(
        world_rank=process.world_rank,
        tp_rank=parallel_state.get_tensor_model_parallel_rank(),
        cp_rank=parallel_state.get_context_parallel_rank(),
        dp_rank=parallel_state.get_data_parallel_rank(),
        pp_rank=parallel_state.get_pipeline_model_parallel_rank(),
        ep_rank=parallel_state.get_expert_model_parallel_rank(),
        # Megatron declares None too, for a process that has not joined.
        expert_tp_rank=parallel_state.get_expert_tensor_parallel_rank() or 0,
    )


def destroy_parallel() -> None:
    """Leave the process group; the process may then join another grid."""
    parallel_state.destroy_model_parallel()
    dist.destroy_process_group()
