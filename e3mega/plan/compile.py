"""Compiles a spec into the plan of its jobs, without GPU, network or torch."""

from e3mega import __version__
from e3mega.families.geometry import ModelOptions
from e3mega.plan.memory import bytes_per_value, num_parameters
from e3mega.plan.planfile import JobPlan, Plan, Role, ServerPlan
from e3mega.plan.stages import compile_stages, evaluation_budgets, longest_completion
from e3mega.plan.topology import num_learner_ranks
from e3mega.plan.warn import warnings_of
from e3mega.spec.fingerprint import run_fingerprint
from e3mega.spec.schema.curriculum import StageMode, StageOptions
from e3mega.spec.schema.layout import Device
from e3mega.spec.schema.run import RunOptions
from e3mega.tasks.sizes import max_prompt_tokens

_MAX_PREFILL_TOKENS = 8192
"""Prompt tokens that a server prefills at once, when no single prompt is longer."""


def compile_plan(options: RunOptions) -> Plan:
    """The plan of a checked spec; the same options give the same plan."""
    return Plan(
        e3mega_version=__version__,
        name=options.name,
        seed=options.seed,
        run_fingerprint=run_fingerprint(options),
        model=options.model,
        layout=options.layout,
        server=server_plan(options),
        stages=compile_stages(options),
        caps=options.curriculum.caps,
        jobs=_jobs(options),
        checkpoint=options.checkpoint,
        logging=options.logging,
        num_parameters=num_parameters(options.model),
        sync_bytes=sync_bytes(options.model),
        warnings=warnings_of(options),
    )


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


def _jobs(options: RunOptions) -> tuple[JobPlan, ...]:
    """Servers first: they take longest to start."""
    generation, learner = options.layout.generation, options.layout.learner
    servers = tuple(
        JobPlan(
            name=f"generation_{replica}",
            role=Role.GENERATION,
            argv=("{python}", "-m", "e3mega.generation.server", "{run_dir}", str(replica)),
            env=server_environment(generation.threads_per_replica),
            num_devices=generation.tp if generation.device is Device.GPU else 0,
        )
        for replica in range(generation.num_replicas)
    )
    num_ranks = num_learner_ranks(learner)
    ranks = JobPlan(
        name="learner",
        role=Role.LEARNER,
        argv=(
            *("{python}", "-m", "torch.distributed.run"),
            *("--nnodes=1", f"--nproc-per-node={num_ranks}", "--max-restarts=0"),
            *("--rdzv-backend=c10d", "--rdzv-endpoint=127.0.0.1:0", "--local-addr=127.0.0.1"),
            *("-m", "e3mega.learner.worker", "{run_dir}", "{attempt}"),
        ),
        env=_environment(learner.threads_per_rank)
        | _LEARNER_ENVIRONMENT
        | (_DETERMINISTIC_ENVIRONMENT if learner.is_deterministic else {}),
        num_devices=num_ranks if learner.device is Device.GPU else 0,
    )
    loop = JobPlan(
        name="loop",
        role=Role.LOOP,
        argv=("{python}", "-m", "e3mega.loop.wiring", "{run_dir}", "{attempt}"),
        env=_environment(1),
        num_devices=0,
    )
    return (*servers, ranks, loop)


def _environment(num_threads: int) -> dict[str, str]:
    """What every job is started with: its threads, and no network or telemetry of libraries."""
    return {
        "OMP_NUM_THREADS": str(num_threads),
        "MKL_NUM_THREADS": str(num_threads),
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
    }


def server_environment(num_threads: int) -> dict[str, str]:
    """What a generation server is started with."""
    return _environment(num_threads) | _SERVER_ENVIRONMENT


_LEARNER_ENVIRONMENT = {"GLOO_SOCKET_IFNAME": "lo"}
"""All ranks stand on one machine."""

_DETERMINISTIC_ENVIRONMENT = {
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
    "NVTE_ALLOW_NONDETERMINISTIC_ALGO": "0",
    # Tree reductions may be ordered by arrival.
    "NCCL_ALGO": "Ring",
}
"""What torch, Transformer Engine and NCCL ask for to give the same bits twice."""

_SERVER_ENVIRONMENT = {
    "VLLM_SERVER_DEV_MODE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    # Automatic binding pins the worker to core 0.
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    # Log-probabilities then do not depend on the other sequences of a batch, on two threads too.
    "VLLM_CPU_ATTN_SPLIT_KV": "0",
}
"""Development routes carry the weight transfer."""
