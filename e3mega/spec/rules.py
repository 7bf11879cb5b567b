"""Rules that tie several keys of a run together, one small function each."""

import re
from collections.abc import Callable, Iterator

from e3mega.errors import Problem, nearest
from e3mega.spec.cluster_rules import CLUSTER_RULES
from e3mega.spec.findings import Finding, as_problem
from e3mega.spec.layout_rules import LAYOUT_RULES
from e3mega.spec.model_rules import MODEL_RULES
from e3mega.spec.origins import Composition, Key
from e3mega.spec.schema.curriculum import StageMode
from e3mega.spec.schema.run import RunOptions
from e3mega.spec.signatures.tables import misfit, vllm_server_arguments, vllm_version
from e3mega.spec.stage_rules import stage_findings

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
_SERVER_SETTINGS = ("max_num_seqs", "server_start", "start_deadline_s", "server_args")
_PLANNED_SERVER_ARGS = frozenset(
    {
        "model",
        "served_model_name",
        "host",
        "port",
        "dtype",
        "load_format",
        "max_model_len",
        "max_num_seqs",
        "max_num_batched_tokens",
        "tensor_parallel_size",
        "enable_chunked_prefill",
        "enable_scale_out",
        "logprobs_mode",
        "weight_transfer_config",
        "middleware",
        "kv_cache_memory_bytes",
        "api_key",
        "generation_config",
        "override_generation_config",
    }
)
"""vLLM arguments that the server's job derives from the plan, and those that would have it sample
from another distribution than its log-probabilities, and so the importance weights, are of."""


def check_rules(
    options: RunOptions, composition: Composition, report: Callable[[Problem], None]
) -> None:
    """Report every rule that the options break."""
    findings = [finding for rule in _RULES for finding in rule(options)]
    seen: set[tuple[str, str, str]] = set()
    for finding in [*findings, *stage_findings(options)]:
        problem = as_problem(finding, options, composition)
        # Stages that inherit one value break a rule by it each; once is enough.
        identity = (problem.where, problem.key, finding.need)
        if identity not in seen:
            seen.add(identity)
            report(problem)


def stage_layouts_are_possible(options: RunOptions) -> Iterator[Finding]:
    """Every rule of the layout holds for the grid of each stage that has one of its own."""
    for name, stage in options.curriculum.stages.items():
        if stage.layout == options.layout:
            continue
        base: Key = ("curriculum", "stages", name)
        own = options.model_copy(update={"layout": stage.layout})
        for finding in (finding for rule in LAYOUT_RULES for finding in rule(own)):
            keys = [
                (*base, *key) if key[0] == "layout" else key
                for key in (finding.key, *finding.cites)
            ]
            yield Finding(keys[0], finding.need, finding.fix, tuple(keys[1:]))


def names_can_be_folders(options: RunOptions) -> Iterator[Finding]:
    """The names of run and stages are names of folders."""
    named: list[tuple[Key, str]] = [(("name",), options.name)]
    named += [(("curriculum", "stages", name), name) for name in options.curriculum.stages]
    for key, name in named:
        if not _NAME.fullmatch(name):
            need = "a name of letters, digits, - and _"
            yield Finding(key, need, f"rename {name!r}")


def order_names_each_stage_once(options: RunOptions) -> Iterator[Finding]:
    """``curriculum.order`` holds every stage exactly once."""
    order, stages = options.curriculum.order, options.curriculum.stages
    if len(order) != len(set(order)) or set(order) != set(stages) or not order:
        need = f"each of the stages {', '.join(stages) or '(there are none)'} once"
        yield Finding(("curriculum", "order"), need, "name every stage once, in order")


def servers_serve_all_stages(options: RunOptions) -> Iterator[Finding]:
    """A server starts once, so what it starts with is the run's and no stage's."""
    for stage_name, stage in options.curriculum.stages.items():
        for name in _SERVER_SETTINGS:
            if getattr(stage.generation, name) != getattr(options.generation, name):
                key: Key = ("curriculum", "stages", stage_name, "generation", name)
                fix = f"set generation.{name} for the whole run"
                yield Finding(key, "{0}, as for all stages", fix, (("generation", name),))


def first_stage_starts_from_something(options: RunOptions) -> Iterator[Finding]:
    """Random weights earn no reward, so the first stage on them is supervised."""
    name = next(iter(options.curriculum.order), "")
    first = options.curriculum.stages.get(name)
    if first is not None and first.mode is StageMode.RL and options.model.hf_path is None:
        key: Key = ("curriculum", "stages", name, "mode")
        fix = "put a supervised stage before it, or set model.hf_path"
        need = "supervised for the first stage from random weights, {0}"
        yield Finding(key, need, fix, (("model", "hf_path"),))


def server_args_are_vllms(options: RunOptions) -> Iterator[Finding]:
    """Arguments are ones that the server has; those that follow from the plan, or that the proof
    of a sync rests on, stay as they are."""
    known = vllm_server_arguments()
    for name, value in options.generation.server_args.items():
        key: Key = ("generation", "server_args", name)
        plain = name.strip("-").replace("-", "_").lower()
        if plain in _PLANNED_SERVER_ARGS:
            yield Finding(key, "an argument that e3mega does not set itself", "remove it")
        elif plain != name and plain in known:
            yield Finding(key, "vLLM's long name with underscores", f"write {plain}")
        elif name not in known:
            near = nearest(plain, known)
            fix = f"did you mean {near}?" if near else "see vllm serve --help for its arguments"
            yield Finding(key, f"an argument of vLLM {vllm_version()}", fix)
        elif need := misfit(known[name], value):
            yield Finding(key, need, f"write {need}")


_RULES: tuple[Callable[[RunOptions], Iterator[Finding]], ...] = (
    names_can_be_folders,
    order_names_each_stage_once,
    first_stage_starts_from_something,
    *CLUSTER_RULES,
    *LAYOUT_RULES,
    stage_layouts_are_possible,
    *MODEL_RULES,
    servers_serve_all_stages,
    server_args_are_vllms,
)
