"""Compiles a spec into the plan of its jobs, without GPU, network or torch."""

from e3mega import __version__
from e3mega.errors import SpecError
from e3mega.families.geometry import ModelOptions
from e3mega.plan.estimate import estimate
from e3mega.plan.fit import misfits
from e3mega.plan.jobs import compile_jobs
from e3mega.plan.memory import bytes_per_value, num_parameters
from e3mega.plan.planfile import Plan, ServerPlan
from e3mega.plan.stages import compile_stages, evaluation_budgets, longest_completion
from e3mega.plan.warn import warnings_of
from e3mega.spec.fingerprint import run_fingerprint
from e3mega.spec.resolve import Resolved
from e3mega.spec.schema.curriculum import StageMode, StageOptions
from e3mega.spec.schema.run import RunOptions
from e3mega.tasks.sizes import max_prompt_tokens

_MAX_PREFILL_TOKENS = 8192
"""Prompt tokens that a server prefills at once, when no single prompt is longer."""


def compile_plan(options: RunOptions) -> Plan:
    """The plan of a checked spec; the same options give the same plan."""
    stages, server = compile_stages(options), server_plan(options)
    expected = estimate(options, stages, server)
    return Plan(
        e3mega_version=__version__,
        name=options.name,
        seed=options.seed,
        run_fingerprint=run_fingerprint(options),
        model=options.model,
        layout=options.layout,
        server=server,
        stages=stages,
        caps=options.curriculum.caps,
        jobs=compile_jobs(options),
        cluster=options.cluster,
        checkpoint=options.checkpoint,
        logging=options.logging,
        num_parameters=num_parameters(options.model),
        sync_bytes=sync_bytes(options.model),
        warnings=warnings_of(options, stages, expected),
        estimates=expected,
    )


def checked_plan(resolved: Resolved) -> Plan:
    """The plan of a spec.

    Raises SpecError when something does not fit into its devices.
    """
    plan = compile_plan(resolved.options)
    found = tuple(misfits(resolved.options, resolved.composition, plan.stages, plan.server))
    if found:
        raise SpecError(found)
    return plan


def sync_bytes(model: ModelOptions) -> int:
    """Bytes of one weight sync: every parameter once, a tied LM head not again."""
    return num_parameters(model) * bytes_per_value(model.precision)


def server_plan(options: RunOptions) -> ServerPlan:
    """Sizes of every server: ``max_model_len`` is the longest prompt and completion asked for.

    No prompt is prefilled in chunks, so ``max_num_batched_tokens`` is at least ``max_model_len``;
    it also lets every sequence that a server decodes at once be admitted in one step, up to 8192
    prompt tokens.
    """
    stages = options.curriculum.stages.values()
    max_model_len = max(_longest_request(options, stage) for stage in stages)
    max_num_seqs = max(stage.generation.max_num_seqs for stage in stages)
    prompts = max_num_seqs * max(max_prompt_tokens(stage.task) for stage in stages)
    return ServerPlan(
        max_model_len=max_model_len,
        max_num_seqs=max_num_seqs,
        max_num_batched_tokens=max(max_model_len, max_num_seqs, min(prompts, _MAX_PREFILL_TOKENS)),
        kv_cache_bytes=options.layout.generation.kv_cache_bytes,
    )


def _longest_request(options: RunOptions, stage: StageOptions) -> int:
    completions = [*evaluation_budgets(options, stage), stage.evaluation.pass_budget_tokens]
    if stage.mode is StageMode.RL:
        completions.append(longest_completion(stage))
    return max_prompt_tokens(stage.task) + max(completions)
