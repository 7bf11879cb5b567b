"""A site's profile: how nemo-run reaches its machines, read from ``launchers`` and checked."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from pydantic import Field, JsonValue, ValidationError

from e3mega.errors import E3Error, Problem, SpecError, nearest
from e3mega.metrics import Json
from e3mega.options import Options, Positive
from e3mega.plan.paths import launchers_dir
from e3mega.spec.signatures.tables import misfit, nemo_run_classes
from e3mega.spec.yamlfile import Parsed, parse_yaml


class Kind(Enum):
    """Which of nemo-run's executors a profile uses."""

    LOCAL = "local"
    """This machine."""
    SLURM = "slurm"
    """A Slurm cluster, by sbatch here or over SSH."""
    KUBEFLOW = "kubeflow"
    """A Kubernetes cluster with Kubeflow's training operator."""
    SKYPILOT = "skypilot"
    """Clouds, by SkyPilot."""


EXECUTORS = {
    Kind.LOCAL: "LocalExecutor",
    Kind.SLURM: "SlurmExecutor",
    Kind.KUBEFLOW: "KubeflowExecutor",
    Kind.SKYPILOT: "SkypilotExecutor",
}


class ChainKind(Enum):
    """How a run goes on when its time on the machine ends."""

    DEPENDENT = "dependent"
    """Jobs are submitted at once; each waits for the one before and goes on from its checkpoint."""
    REQUEUE = "requeue"
    """The scheduler queues the same job again when the run left at a checkpoint."""


class Chain(Options):
    """A run that is longer than a job may be."""

    kind: ChainKind = ChainKind.DEPENDENT
    """How the next job begins."""
    jobs: Positive
    """Most jobs of the run."""


class Profile(Options):
    """A file of ``launchers``; the one place that a site edits."""

    kind: Kind
    """Which executor."""
    executor: dict[str, JsonValue] = Field(default_factory=dict)
    """Fields of nemo-run's executor; those that follow from the plan are set by e3mega."""
    tunnel: dict[str, JsonValue] | None = None
    """Fields of nemo-run's SSHTunnel; null submits from this machine."""
    python: str | None = None
    """The interpreter that has e3mega on the nodes; null for the one that launches."""
    run_root: str | None = None
    """Folder of run folders that all nodes see; null for runs/ of the checkout."""
    env: dict[str, str] = Field(default_factory=dict)
    """Variables written into the script; no secrets."""
    pass_env: tuple[str, ...] = ()
    """Names of further variables of the node that jobs may see, e.g. WANDB_API_KEY."""
    setup: str = ""
    """Shell lines before the run, e.g. module load."""
    cluster: dict[str, JsonValue] = Field(default_factory=dict)
    """Values of the spec's section cluster."""
    chain: Chain | None = None
    """How long runs go on; null for one job."""


@dataclass(frozen=True, slots=True)
class SiteProfile:
    """A checked profile and the file it came from."""

    path: Path
    options: Profile


_PLANNED = {
    **dict.fromkeys(("nodes", "num_nodes", "ntasks_per_node"), "set cluster.learner_nodes"),
    **dict.fromkeys(("gpus_per_node", "gpus_per_task"), "set cluster.gpus_per_node"),
    **dict.fromkeys(("nprocs_per_node", "torchrun_nproc_per_node"), "set layout.learner"),
    **dict.fromkeys(("env_vars", "container_env"), "use env or pass_env of the profile"),
    **dict.fromkeys(("retries", "dependencies", "dependency_type"), "use chain of the profile"),
    **dict.fromkeys(("setup_lines", "setup"), "use setup of the profile"),
    **dict.fromkeys(("heterogeneous", "het_group_indices"), "set cluster.generation_nodes"),
    **dict.fromkeys(("tunnel",), "use tunnel of the profile"),
    **dict.fromkeys(
        ("packager", "launcher", "job_dir", "experiment_id", "job_details", "array", "signal"),
        "leave it out",
    ),
}
"""Fields that follow from the plan, and what to do instead."""

_ONLY = {
    "tunnel": (Kind.SLURM,),
    "chain": (Kind.SLURM,),
    "setup": (Kind.SLURM, Kind.SKYPILOT),
}
"""What only some of nemo-run's executors can do."""

_SECRET = re.compile(r"TOKEN|SECRET|PASSW|CREDENTIAL|API_?KEY", re.IGNORECASE)


def cluster_sets(profile: SiteProfile, given: Sequence[str]) -> list[str]:
    """The profile's values of the section cluster as --set has them, but for keys set already."""
    named = {text.split("=", 1)[0] for text in given}
    return [
        f"cluster.{name}={json.dumps(value)}"
        for name, value in profile.options.cluster.items()
        if f"cluster.{name}" not in named
    ]


def find_profile(name: str) -> Path:
    """A profile by its path or by its name in ``launchers``; raises E3Error with the nearest."""
    direct = Path(name)
    if direct.suffix in (".yaml", ".yml"):
        if direct.is_file():
            return direct
        raise E3Error(f"there is no profile {name}")
    known = sorted(path.stem for path in launchers_dir().glob("*.yaml"))
    if name in known:
        return launchers_dir() / f"{name}.yaml"
    near = nearest(name, known)
    hint = f"did you mean {near}?" if near else f"there are {', '.join(known)}"
    raise E3Error(f"there is no profile {name!r} in {launchers_dir()}; {hint}")


def read_profile(path: Path) -> SiteProfile:
    """Read and check a profile; raises SpecError with every problem, each with its line."""
    problems: list[Problem] = []
    file = parse_yaml(path.read_text(encoding="utf-8"), str(path), problems.append)
    tree: dict[str, Json] = {}
    for setting in file.settings:
        _put(tree, [str(part) for part in setting.key], setting.value)
    options = _typed(tree, file, path, problems)
    if options is not None:
        problems += _field_problems(options, file, path)
    if problems or options is None:
        raise SpecError(tuple(problems))
    return SiteProfile(path, options)


def _put(tree: dict[str, Json], key: list[str], value: Json) -> None:
    for part in key[:-1]:
        inner = tree.setdefault(part, {})
        assert isinstance(inner, dict), f"{part} is set and has keys inside"
        tree = inner
    tree[key[-1]] = value


def _typed(
    tree: dict[str, Json], file: Parsed, path: Path, problems: list[Problem]
) -> Profile | None:
    try:
        return Profile.model_validate_json(json.dumps(tree))
    except ValidationError as error:
        for each in error.errors():
            key = ".".join(str(part) for part in each["loc"])
            near = nearest(str(each["loc"][-1]), Profile.model_fields)
            unknown = each["type"] == "extra_forbidden"
            need = f"one of {', '.join(Profile.model_fields)}" if unknown else each["msg"]
            fix = f"did you mean {near}?" if unknown and near else "correct it"
            got = "an unknown key" if unknown else json.dumps(each["input"])
            problems.append(Problem(_where(file, path, key), key, got, need, fix))
        return None


def _field_problems(options: Profile, file: Parsed, path: Path) -> list[Problem]:
    """Fields that nemo-run would ignore or e3mega sets, wrong values, secrets."""
    found = _misfits("executor", EXECUTORS[options.kind], options.executor, file, path)
    if options.tunnel is not None:
        found += _misfits("tunnel", "SSHTunnel", options.tunnel, file, path)
    for key, kinds in _ONLY.items():
        if getattr(options, key) and options.kind not in kinds:
            need = f"kind: {' or '.join(kind.value for kind in kinds)}"
            got = f"{key} with kind: {options.kind.value}"
            found.append(Problem(_where(file, path, key), key, got, need, "leave it out"))
    for name in options.env:
        if _SECRET.search(name):
            key = f"env.{name}"
            need, fix = "no secret, for scripts are kept", f"export it and use pass_env: [{name}]"
            found.append(Problem(_where(file, path, key), key, "a secret's name", need, fix))
    return found


def _misfits(
    section: str, name: str, fields: dict[str, JsonValue], file: Parsed, path: Path
) -> list[Problem]:
    table = nemo_run_classes()[name]
    found: list[Problem] = []
    for field, value in fields.items():
        key = f"{section}.{field}"
        where = _where(file, path, key)
        if section == "executor" and field in _PLANNED:
            need = "nothing: e3mega sets it from the plan"
            found.append(Problem(where, key, json.dumps(value), need, _PLANNED[field]))
        elif field not in table:
            near = nearest(field, table)
            fix = f"did you mean {near}?" if near else f"it has {', '.join(sorted(table))}"
            found.append(Problem(where, key, "an unknown key", f"a field of {name}", fix))
        elif need := misfit(table[field], value):
            found.append(Problem(where, key, json.dumps(value), need, "correct it"))
    return found


def _where(file: Parsed, path: Path, key: str) -> str:
    """File and line of a key, or of the first inside it; the file alone when it is not there."""
    for setting in file.settings:
        dotted = ".".join(str(part) for part in setting.key)
        if dotted == key or dotted.startswith(f"{key}."):
            return f"{path}:{setting.line}"
    return str(path)
