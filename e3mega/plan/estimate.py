"""Estimates what a spec's stages take: memory of every device, seconds, utilisation, cost."""

import math
from dataclasses import dataclass, replace
from itertools import groupby

from e3mega.curriculum.options import CoupledBudget, RampBudget
from e3mega.families.geometry import ModelOptions, Precision
from e3mega.families.mapping import padded_vocab_size
from e3mega.plan.activations import activation_bytes
from e3mega.plan.counts import largest_tensor_size
from e3mega.plan.estimates import (
    BudgetEstimate,
    Estimates,
    RankEstimate,
    SegmentEstimate,
    ServerEstimate,
    most_bytes,
)
from e3mega.plan.flops import forward_flops
from e3mega.plan.lag import lag_estimate, slowness
from e3mega.plan.machines import device_row, usable_bytes
from e3mega.plan.memory import (
    bytes_per_value,
    kv_bytes_per_token,
    memory_per_rank,
    num_parameters,
)
from e3mega.plan.placement import place, ranks_per_node
from e3mega.plan.planfile import BudgetPlan, ServerPlan, StagePlan
from e3mega.plan.timing import (
    Load,
    Machine,
    concurrent_sequences,
    generation_seconds,
    learning_seconds,
    passes_per_step,
    sync_seconds,
)
from e3mega.plan.topology import num_learner_ranks
from e3mega.spec.schema.curriculum import StageMode
from e3mega.spec.schema.layout import Device
from e3mega.spec.schema.run import RunOptions
from e3mega.tasks.sizes import max_prompt_tokens, max_trace_tokens, mean_trace_tokens


def estimate(options: RunOptions, stages: tuple[StagePlan, ...], server: ServerPlan) -> Estimates:
    """What the stages of a spec take."""
    tier = server_estimate(options, server)
    view = _View(options, server, tier)
    budgets = tuple(view.budget(stage, budget) for stage in stages for budget in stage.budgets)
    total_s = sum(stage_seconds(stage, budgets) for stage in stages)
    num_devices = _num_devices(options)
    learner = device_row(options.layout.learner.device, options.estimates)
    return Estimates(
        completion_frac=options.estimates.completion_frac,
        learner_device=learner.name,
        server_device=device_row(options.layout.generation.device, options.estimates).name,
        device_bytes=usable_bytes(learner, options.estimates),
        segments=_segments(options, stages),
        server=tier,
        budgets=budgets,
        num_devices=num_devices,
        total_s=total_s,
        device_hours=num_devices * total_s / 3600,
    )


def fullest_ranks(options: RunOptions, stages: tuple[StagePlan, ...]) -> tuple[RankEstimate, ...]:
    """Every rank of the learner in the stage in which the fullest of them is fullest."""
    return max((rank_estimates(options.model, stage) for stage in stages), key=most_bytes)


def _segments(options: RunOptions, stages: tuple[StagePlan, ...]) -> tuple[SegmentEstimate, ...]:
    """The learner in each run of stages that have one grid."""
    groups = (tuple(group) for _, group in groupby(stages, key=lambda stage: stage.segment))
    return tuple(
        SegmentEstimate(tuple(s.name for s in group), fullest_ranks(options, group))
        for group in groups
    )


def rank_estimates(model: ModelOptions, stage: StagePlan) -> tuple[RankEstimate, ...]:
    """Every rank of the learner in one stage."""
    layout = stage.learner
    num_bins = max(_bins_per_rank(stage, budget, budget.tokens) for budget in stage.budgets)
    activations = {
        pp_rank: activation_bytes(
            model,
            layout,
            bin_tokens=stage.rollout.packed_tokens,
            num_bins=num_bins,
            pp_rank=pp_rank,
        )
        for pp_rank in range(layout.pp)
    }
    buffer = largest_tensor_size(model) * bytes_per_value(model.precision)
    return tuple(
        RankEstimate(
            place=rank.place,
            weight_bytes=rank.weight_bytes,
            gradient_bytes=rank.gradient_bytes,
            optimizer_bytes=rank.optimizer_bytes,
            activation_bytes=activations[rank.place.pp_rank],
            sync_buffer_bytes=buffer,
            selection_bytes=_selection_bytes(model, stage, rank.place.pp_rank),
            host_reference_bytes=rank.weight_bytes if has_reference(stage) else 0,
            host_hidden_bytes=_hidden_bytes(model, stage, rank.place.pp_rank),
        )
        for rank in memory_per_rank(model, layout)
    )


def _selection_bytes(model: ModelOptions, stage: StagePlan, pp_rank: int) -> int:
    if not stage.loss.selects_tokens or pp_rank != stage.learner.pp - 1:
        return 0
    rows = padded_vocab_size(model.vocab_size, stage.learner.tp) // stage.learner.tp
    num_matrices = 1 if model.precision is Precision.FLOAT32 else 2
    return num_matrices * rows * model.hidden_size * 4


def _hidden_bytes(model: ModelOptions, stage: StagePlan, pp_rank: int) -> int:
    if not stage.loss.selects_tokens or pp_rank != stage.learner.pp - 1:
        return 0
    num_sequences = stage.rollout.prompts_per_step * stage.rollout.samples_per_prompt
    longest = max(budget.tokens for budget in stage.budgets)
    values = math.ceil(num_sequences * longest / stage.learner.dp) * model.hidden_size
    return values * bytes_per_value(model.precision)


def has_reference(stage: StagePlan) -> bool:
    """Whether a stage compares with reference weights."""
    return stage.loss.kl is not None


def server_estimate(options: RunOptions, server: ServerPlan) -> ServerEstimate:
    """What each device of a server holds; vLLM gives its cache all memory that is left."""
    model, layout = options.model, options.layout.generation
    scale = layout.tp if layout.device is Device.GPU else 1
    weight_bytes = num_parameters(model) * bytes_per_value(model.precision) // scale
    buffer = largest_tensor_size(model) * bytes_per_value(model.precision)
    row = device_row(layout.device, options.estimates)
    cache = server.kv_cache_bytes
    if layout.device is Device.GPU:
        cache = max(0, usable_bytes(row, options.estimates) - weight_bytes - buffer)
    # Ranks beyond the key-value heads hold copies.
    heads = max(1, model.num_kv_heads // scale)
    per_token = kv_bytes_per_token(model) * heads // model.num_kv_heads
    return ServerEstimate(weight_bytes, cache, buffer, cache // per_token)


@dataclass(frozen=True, slots=True)
class _View:
    """What the estimates of all stages share."""

    options: RunOptions
    server: ServerPlan
    tier: ServerEstimate

    def machine(self, device: Device, devices_per_node: int = 1) -> Machine:
        row = device_row(device, self.options.estimates)
        return Machine(row, self.options.estimates, devices_per_node)

    def budget(self, stage: StagePlan, budget: BudgetPlan) -> BudgetEstimate:
        """One stage at one of its budgets."""
        options, layout = self.options, stage.learner
        is_rl = stage.mode is StageMode.RL
        mean = self._mean_tokens(stage, budget)
        sequence = max_prompt_tokens(stage.task) + mean
        num_sequences = stage.rollout.prompts_per_step * stage.rollout.samples_per_prompt
        passes = passes_per_step(layout, num_scoring=num_scoring_passes(stage))
        step_flops = passes * num_sequences * forward_flops(options.model, sequence)
        bins = _bins_per_rank(stage, budget, mean)
        learning = learning_seconds(
            options.model,
            layout,
            self.machine(layout.device, ranks_per_node(options.cluster, options.layout)),
            step_flops=step_flops,
            bins_per_rank=bins,
        )
        per_round = stage.rollout.steps_per_round
        load = self._load(stage, num_sequences * per_round, budget.tokens)
        concurrent = self._concurrent(load)
        generation = self._generation_s(load) if is_rl else 0.0
        sync = self._sync_s(stage) if is_rl else 0.0
        busy = (generation, per_round * learning)
        round_s = (max(busy) if stage.rollout.max_lag else sum(busy)) + sync
        lag = lag_estimate(
            max_lag=stage.rollout.max_lag,
            group_slowness=_slowness(stage.rollout.samples_per_prompt, mean, budget),
            round_slowness=_slowness(num_sequences * per_round, mean, budget),
            num_slots=self._slots(load) * options.layout.generation.num_replicas,
            round_sequences=num_sequences * per_round,
        )
        measuring = self._measuring_s(stage) if is_rl else 0.0
        return BudgetEstimate(
            stage=stage.name,
            budget_tokens=budget.tokens,
            sequence_tokens=sequence,
            step_tokens=num_sequences * sequence,
            step_flops=step_flops,
            bins_per_rank=bins,
            concurrent_sequences=concurrent if is_rl else 0,
            generation_s=generation,
            learning_s=learning,
            sync_s=sync,
            step_s=round_s / per_round,
            learner_busy_frac=per_round * learning / round_s,
            tier_busy_frac=generation / round_s,
            slot_busy_frac=lag.slot_busy_frac if is_rl else 0.0,
            mean_lag=lag.mean_lag,
            capacity_lag=lag.capacity_lag if is_rl else 0.0,
            measuring_s=measuring,
            total_s=round_s / per_round * _num_steps(stage, budget) + measuring,
        )

    def _mean_tokens(self, stage: StagePlan, budget: BudgetPlan) -> float:
        """Mean completion: that of its traces in a supervised stage, which may be far shorter than
        the budget, where the task's options tell it."""
        share = self.options.estimates.completion_frac
        if stage.mode is StageMode.RL:
            return share * budget.tokens
        longest = max_trace_tokens(stage.task) - max_prompt_tokens(stage.task)
        known = mean_trace_tokens(stage.task)
        return share * min(budget.tokens, longest) if known is None else known

    def _load(self, stage: StagePlan, num_sequences: int, budget_tokens: int) -> Load:
        """One server's share of sequences."""
        return Load(
            num_sequences=math.ceil(num_sequences / self.options.layout.generation.num_replicas),
            prompt_tokens=max_prompt_tokens(stage.task),
            completion_tokens=self.options.estimates.completion_frac * budget_tokens,
            longest_tokens=budget_tokens,
        )

    def _concurrent(self, load: Load) -> int:
        return concurrent_sequences(
            load,
            max_num_seqs=self.server.max_num_seqs,
            kv_cache_tokens=self.tier.kv_cache_tokens,
        )

    def _slots(self, load: Load) -> int:
        """Sequences that one server can decode at once, if there are as many."""
        return self._concurrent(replace(load, num_sequences=self.server.max_num_seqs))

    def _generation_s(self, load: Load) -> float:
        layout = self.options.layout.generation
        return generation_seconds(
            self.options.model,
            layout,
            self.machine(layout.device),
            load,
            num_concurrent=self._concurrent(load),
        )

    def _sync_s(self, stage: StagePlan) -> float:
        model, layout = self.options.model, self.options.layout.generation
        num_bytes = num_parameters(model) * bytes_per_value(model.precision)
        num_devices = num_learner_ranks(stage.learner) + layout.tp * layout.num_replicas
        num_nodes = place(self.options.cluster, self.options.layout).num_nodes
        machine = self.machine(layout.device, num_devices if num_nodes == 1 else 1)
        return sync_seconds(num_bytes, machine, num_devices)

    def _measuring_s(self, stage: StagePlan) -> float:
        """Evaluations within and after the stage, and of a coupled rule before it."""
        evaluation, rule = stage.evaluation, stage.budget
        samples = evaluation.num_problems * evaluation.samples_per_problem
        every = evaluation.every_steps
        count = 1 if every is None else 1 + (stage.max_steps - 1) // every
        found = count * self._generation_s(self._load(stage, samples, evaluation.budgets[-1]))
        if isinstance(rule, CoupledBudget):
            samples = rule.num_problems * rule.samples_per_problem
            found += self._generation_s(self._load(stage, samples, 2 * rule.candidates[-1]))
        return found


def num_scoring_passes(stage: StagePlan) -> int:
    """Forward passes without a backward one of a step: for the log-probs of the round's first
    weights where a ratio needs them, for those of the reference, and for the choice of tokens."""
    has_old = stage.rollout.steps_per_round > 1 and stage.loss.compares_with_start
    return has_old + has_reference(stage) + stage.loss.selects_tokens


def _slowness(num_sequences: int, mean: float, budget: BudgetPlan) -> float:
    return slowness(num_sequences, mean_tokens=mean, longest_tokens=budget.tokens)


def _bins_per_rank(stage: StagePlan, budget: BudgetPlan, completion_tokens: float) -> int:
    """Packed bins of one step on each data-parallel rank, completions of this length on average."""
    num_sequences = stage.rollout.prompts_per_step * stage.rollout.samples_per_prompt
    prompt = budget.max_sequence_tokens - budget.tokens
    tokens = num_sequences * (prompt + completion_tokens)
    return max(1, math.ceil(tokens / budget.packed_tokens / stage.learner.dp))


def _num_steps(stage: StagePlan, budget: BudgetPlan) -> int:
    """Most steps that a stage takes at one of its budgets."""
    if not isinstance(stage.budget, RampBudget):
        return stage.max_steps
    level = stage.budget.levels.index(budget.tokens)
    left = max(0, stage.max_steps - level * stage.budget.steps_per_level)
    is_last = level == len(stage.budget.levels) - 1
    return left if is_last else min(left, stage.budget.steps_per_level)


def stage_seconds(stage: StagePlan, budgets: tuple[BudgetEstimate, ...]) -> float:
    """Seconds of a stage: of all levels of a ramp, else at the dearest budget."""
    own = [each.total_s for each in budgets if each.stage == stage.name]
    return sum(own) if isinstance(stage.budget, RampBudget) else max(own)


def _num_devices(options: RunOptions) -> int:
    """GPUs of all jobs; without any, the most threads that compute at once."""
    learner, generation = options.layout.learner, options.layout.generation
    ranks, servers = num_learner_ranks(learner), generation.num_replicas * generation.tp
    gpus = ranks * (learner.device is Device.GPU) + servers * (generation.device is Device.GPU)
    threads = (
        ranks * learner.threads_per_rank,
        generation.num_replicas * generation.threads_per_replica,
    )
    has_lag = any(stage.rollout.max_lag for stage in options.curriculum.stages.values())
    return gpus or (sum(threads) if has_lag else max(threads))
