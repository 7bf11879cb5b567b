"""Builds the learner's model and optimizer from a plan, with Megatron-Core's own classes."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from megatron.core.distributed import DistributedDataParallel, finalize_model_grads
from megatron.core.models.gpt.gpt_model import GPTModel
from megatron.core.optimizer import MegatronOptimizer, get_megatron_optimizer
from megatron.core.process_groups_config import ProcessGroupCollection
from megatron.core.transformer.transformer_config import TransformerConfig

from e3mega.families.geometry import ModelOptions
from e3mega.families.mapping import Weight, padded_vocab_size
from e3mega.families.registry import weights
from e3mega.mcore.config import DTYPES, gradient_config, optimizer_config, transformer_config
from e3mega.mcore.layers import local_block
from e3mega.mcore.parallel import RankGrid, num_interleaved
from e3mega.mcore.rope import Rotary, rotary
from e3mega.mcore.te_layers import te_block, uses_te
from e3mega.plan.planfile import Plan
from e3mega.plan.topology import layers_of
from e3mega.spec.schema.optimizer import OptimizerOptions

_NUMBERED = re.compile(r"(layers|local_experts)\.([0-9]+)")
_OUR_NAMES = (
    (re.compile(r"self_attention\.linear_qkv\.layer_norm_weight"), "input_layernorm.weight"),
    (re.compile(r"mlp\.linear_fc1\.layer_norm_weight"), "pre_mlp_layernorm.weight"),
    (
        re.compile(r"experts\.(linear_fc[12])\.weight([0-9]+)"),
        r"experts.local_experts.\2.\1.weight",
    ),
)
"""Transformer Engine's names of parameters, and those of Megatron's own layers."""


@dataclass(frozen=True, slots=True)
class LearnerModel:
    """This rank's share of the model and of the optimizer.

    A checkpoint needs ``chunks`` (their ``sharded_state_dict``), ``optimizer`` (Megatron's
    distributed optimizer) and nothing else of the learner: the learning rate is a pure function
    of the stage's options and step, set before every step, and no operation draws random numbers
    after the start.
    """

    model: ModelOptions
    grid: RankGrid
    config: TransformerConfig
    chunks: list[DistributedDataParallel]
    """Pipeline chunks of this rank: one, or several where stages are interleaved."""
    optimizer: MegatronOptimizer
    rope: Rotary

    @property
    def dtype(self) -> torch.dtype:
        """Number format of weights and activations."""
        return DTYPES[self.model.precision]

    def gather_parameters(self) -> None:
        """Finish the gather that overlaps the next forward pass, for whoever reads weights before.

        A collective of all ranks. Without the overlap every step ends with whole parameters.
        """
        if self.grid.layout.overlap_param_gather:
            for chunk in self.chunks:
                chunk.start_param_sync(force_sync=True)

    def named_parameters(self) -> dict[str, torch.nn.Parameter]:
        """This rank's parameters by their Megatron names, with the numbers of layers and experts
        in the whole model, so that a name means the same on every grid."""
        layout, place = self.grid.layout, self.grid.place
        held = layers_of(self.model.num_layers, layout, place.pp_rank)
        experts = self.model.experts
        first_expert = experts.num_experts // layout.ep * place.ep_rank if experts else 0
        return {
            _NUMBERED.sub(_counted_from(layers.start, first_expert), our_name(name)): parameter
            for chunk, layers in zip(self.chunks, held, strict=True)
            for name, parameter in chunk.module.named_parameters()
        }

    def held_weights(self) -> Iterator[tuple[Weight, torch.nn.Parameter]]:
        """Lines of the mapping table of which this rank holds a shard, each with the shard.

        A tied embedding is held by the first stage; the last stage's copy is not listed.
        """
        parameters = self.named_parameters()
        for weight in weights(self.model):
            if weight.name in parameters:
                yield weight, parameters[weight.name]

    def copies(self) -> Iterator[tuple[Weight, torch.nn.Parameter]]:
        """Weights of which this rank holds a second copy: a tied embedding as the LM head."""
        parameters = self.named_parameters()
        for weight in weights(self.model):
            if weight.copy_name in parameters:
                yield weight, parameters[weight.copy_name]


def our_name(name: str) -> str:
    """A parameter's name in Megatron's own layers, whichever layers it stands in."""
    for theirs, ours in _OUR_NAMES:
        name = theirs.sub(ours, name)
    return name


def _counted_from(first_layer: int, first_expert: int):  # a substitution
    starts = {"layers": first_layer, "local_experts": first_expert}
    return lambda match: f"{match[1]}.{int(match[2]) + starts[match[1]]}"


def build_learner(plan: Plan, grid: RankGrid) -> LearnerModel:
    """Build this rank's share; weights are unset until ``weights.load`` fills them.

    All ranks call it. It needs ``init_parallel`` to have run.
    """
    return build_model(plan.model, plan.stages[0].optimizer, grid)


def build_model(
    model: ModelOptions, optimizer_options: OptimizerOptions, grid: RankGrid
) -> LearnerModel:
    """The same from the options themselves."""
    layout = grid.layout
    config = transformer_config(model, layout, uses_te=uses_te(layout))
    held = layers_of(model.num_layers, layout, grid.place.pp_rank)
    chunks = [
        DistributedDataParallel(
            config,
            gradient_config(layout),
            _network(model, config, grid, chunk=number, layers=layers),
            # Later chunks are reduced while earlier ones compute.
            disable_bucketing=number > 0,
            pg_collection=grid.groups,
        )
        for number, layers in enumerate(held)
    ]
    optimizer = get_megatron_optimizer(
        optimizer_config(model, layout, optimizer_options),
        list[Any](chunks),
        use_gloo_process_groups=False,
    )
    _connect(config, chunks)
    return LearnerModel(model, grid, config, chunks, optimizer, rotary(model))


def _network(
    model: ModelOptions, config: TransformerConfig, grid: RankGrid, *, chunk: int, layers: range
) -> GPTModel:
    is_last_chunk = chunk == grid.layout.chunks_per_stage - 1
    block = (te_block if uses_te(grid.layout) else local_block)(model, layers)
    network = GPTModel(
        config=config,
        # Megatron takes a block's spec too; it declares a layer's only.
        transformer_layer_spec=block,  # pyright: ignore[reportArgumentType]
        vocab_size=padded_vocab_size(model.vocab_size, grid.layout.tp),
        max_sequence_length=model.max_context_tokens,
        pre_process=grid.is_first_stage and chunk == 0,
        post_process=grid.is_last_stage and is_last_chunk,
        parallel_output=True,
        share_embeddings_and_output_weights=model.ties_embeddings,
        position_embedding_type="none",
        pg_collection=grid.groups,
        vp_stage=chunk if num_interleaved(grid.layout) else None,
    )
    if network.post_process:
        head: Any = network.output_layer
        head.forward = partial(_hand_over, head)
    return network.to(grid.device)


def _hand_over(
    head: Any,
    hidden: torch.Tensor,
    weight: torch.Tensor | None = None,
    runtime_gather_output: bool | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """What the LM head gives in place of logits: its input and its weight, for whoever scores
    them in chunks. It is called as a module, so that its weight is gathered when it is needed."""
    return hidden, head.weight if weight is None else weight


def _connect(config: TransformerConfig, chunks: list[DistributedDataParallel]) -> None:
    """Tell Megatron's schedules how to hold back, start and finish the gradients' reduction."""
    # Interleaved schedules take a list, which the configuration does not declare.
    several: Any = [chunk.no_sync for chunk in chunks]
    config.no_sync_func = several if len(chunks) > 1 else chunks[0].no_sync
    config.finalize_model_grads_func = _finalize_gradients


def _finalize_gradients(
    chunks: list[torch.nn.Module],
    num_tokens: torch.Tensor | None,
    pg_collection: ProcessGroupCollection | None = None,
    force_all_reduce: bool = False,
) -> None:
    """Reduce gradients without dividing them: the loss is already normalised."""
    finalize_model_grads(
        chunks, None, pg_collection=pg_collection, force_all_reduce=force_all_reduce
    )
