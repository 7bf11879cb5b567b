"""The job of one generation server: turns the plan into vLLM's arguments and becomes vLLM.

``python -m e3mega.generation.server RUN_DIR REPLICA HOST``; it listens on a free port of HOST.
"""

import json
import os
import sys
from pathlib import Path

from e3mega.plan.paths import RunPaths
from e3mega.plan.planfile import Plan, ServerPlan, read_plan
from e3mega.spec.schema.generation import GenerationOptions
from e3mega.spec.schema.layout import Device, GenerationLayout
from e3mega.weights.engines.messages import BACKEND

GUARD = "e3mega.vllm_plugin.guard.Guard"


def vllm_arguments(plan: Plan, paths: RunPaths, host: str) -> list[str]:
    """Arguments of stock vLLM for this plan: weights come from the learner."""
    return [
        *server_arguments(
            paths.model_dir,
            host=host,
            dtype=plan.model.precision.value,
            server=plan.server,
            layout=plan.layout.generation,
            generation=plan.stages[0].generation,
        ),
        "--load-format",
        "dummy",
        "--weight-transfer-config",
        json.dumps({"backend": BACKEND}),
    ]


def server_arguments(
    model_dir: Path,
    *,
    host: str,
    dtype: str,
    server: ServerPlan,
    layout: GenerationLayout,
    generation: GenerationOptions,
) -> list[str]:
    """Arguments of stock vLLM for the model of a folder, its weights loaded from there."""
    arguments = [
        "--model",
        str(model_dir),
        "--served-model-name",
        "policy",
        "--host",
        host,
        "--port",
        "0",
        "--dtype",
        dtype,
        "--max-model-len",
        str(server.max_model_len),
        "--max-num-seqs",
        str(server.max_num_seqs),
        "--max-num-batched-tokens",
        str(server.max_num_batched_tokens),
        "--tensor-parallel-size",
        str(layout.tp),
        # A seeded prompt that is split by chunked prefill kills the CPU engine.
        "--no-enable-chunked-prefill",
        "--enable-scale-out",
        "--logprobs-mode",
        "processed_logprobs",
        "--middleware",
        GUARD,
        "--skip-tokenizer-init",
        "--enforce-eager",
        "--disable-log-stats",
        "--disable-uvicorn-access-log",
        "--generation-config",
        "vllm",
    ]
    if layout.device is Device.CPU:
        arguments += ["--kv-cache-memory-bytes", str(server.kv_cache_bytes)]
    for name, value in generation.server_args.items():
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            arguments.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            arguments += [f"--{flag}", str(value)]
    return arguments


def main(argv: list[str]) -> None:
    """Become the server; the address file of an earlier attempt is removed first."""
    paths, replica, host = RunPaths(Path(argv[0])), int(argv[1]), argv[2]
    plan = read_plan(paths.plan)
    paths.address(replica).unlink(missing_ok=True)
    start = plan.stages[0].generation.server_start.value
    command = [sys.executable, "-m", "e3mega.vllm_plugin.main"]
    arguments = vllm_arguments(plan, paths, host)
    rest = [str(paths.key), str(paths.address(replica)), start, *arguments]
    os.execv(sys.executable, [*command, *rest])


if __name__ == "__main__":
    main(sys.argv[1:])
