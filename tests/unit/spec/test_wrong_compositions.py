"""Wrong includes, mounts, replacements, files and command lines: status 2, a line a problem."""

from pathlib import Path

import pytest

from e3mega.cli import main
from tests.spec_cases import problems_of
from tests.unit.spec.test_wrong_specs import WRONG

HEAD = "name: wrong\n"

# text, further arguments, the line of the problem (0: none), words of its line
COMPOSITIONS: dict[str, tuple[str, list[str], int, tuple[str, ...]]] = {
    "misspelt fragment": (
        "include: [runs/quickstart, loss/gripo]",
        [],
        2,
        ("loss/gripo, which is no file", "did you mean loss/grpo?"),
    ),
    "misspelt run": ("include: [runs/quikstart]", [], 2, ("runs/quikstart, which is no file",)),
    "misspelt mount": (
        "include: {.: [runs/quickstart], curriclum.stages.more: [stage/easy]}",
        [],
        2,
        ("curriclum", "did you mean curriculum?"),
    ),
    "misspelt section at a mount": (
        "include: {.: [runs/quickstart], curriculum.stage.more: [stage/easy]}",
        [],
        2,
        ("curriculum.stage", "did you mean stages?"),
    ),
    "fragment at a mount that has no place for it": (
        "include: {.: [runs/quickstart], curriculum.stages.easy.task: [loss/grpo]}",
        [],
        0,
        ("curriculum.stages.easy.task.loss", "an unknown key"),
    ),
    "misspelt replacement": (
        "include: [runs/quickstart]\nreplace: {loss: [loss/nrs]}",
        [],
        3,
        ("did you mean loss/nsr?",),
    ),
    "replacement that is a list": (
        "include: [runs/quickstart]\nreplace: [loss/nsr]",
        [],
        3,
        ("a map of keys to lists",),
    ),
    "replacement by a word": (
        "include: [runs/quickstart]\nreplace: {loss: loss/nsr}",
        [],
        3,
        ("a list of names",),
    ),
    "include that is a word": ("include: runs/quickstart", [], 2, ("a list of names",)),
    "include of a number": ("include: [runs/quickstart, 3]", [], 2, ("a fragment's name",)),
    "include of a mapping in a list": (
        "include: [runs/quickstart, {loss: loss/nsr}]",
        [],
        2,
        ("a fragment's name",),
    ),
    "file that includes itself": ("include: [runs/quickstart, ./run]", [], 2, ("a cycle",)),
    "fragments that disagree": (
        "include:\n  .: [runs/quickstart]\n"
        "  curriculum.stages.easy.loss: []\n"
        "  curriculum.stages.easy: [budget/fixed-64, budget/fixed-256]",
        [],
        0,
        ("budget.tokens", "fixed-256.yaml:2", "fixed-64.yaml:2", "neither file includes"),
    ),
    "duplicate key": ("include: [runs/quickstart]\nseed: 1\nseed: 2", [], 4, ("lines 3 and 4",)),
    "anchor": ("include: [runs/quickstart]\nseed: &a 1", [], 3, ("an anchor or alias",)),
    "tag": ("include: [runs/quickstart]\nseed: !!int 1", [], 3, ("the tag",)),
    "merge key": ("include: [runs/quickstart]\n<<: {seed: 1}", [], 3, ("as a key",)),
    "broken YAML": ("include: [runs/quickstart]\nseed: [1", [], 0, ("mend the syntax",)),
    "tab": ("include: [runs/quickstart]\n\tseed: 1", [], 3, ("mend the syntax",)),
    "two documents": ("include: [runs/quickstart]\n---\nseed: 1", [], 3, ("document",)),
    "set without a value": ("include: [runs/quickstart]", ["--set", "seed"], 0, ("key=value",)),
    "set of an unknown key": (
        "include: [runs/quickstart]",
        ["--set", "loss.ratoi.kind=token"],
        0,
        ("--set loss.ratoi.kind=token", "did you mean ratio?"),
    ),
    "set twice": (
        "include: [runs/quickstart]",
        ["--set", "seed=1", "--set", "seed=2"],
        0,
        ("the key twice on the command line",),
    ),
    "set file that is not there": (
        "include: [runs/quickstart]",
        ["--set-file", "nowhere.yaml"],
        0,
        ("nowhere.yaml", "a file that cannot be read"),
    ),
    "first stage on random weights": (
        "include: [runs/quickstart]\ncurriculum: {order: [easy, warmup, hard]}",
        [],
        0,
        ("curriculum.stages.easy.mode", "model.hf_path = null", "put a supervised stage before"),
    ),
    "importance weights of truncated samples": (
        "include: [runs/quickstart]\n"
        "generation: {server_args: {override_generation_config: '{\"top_p\": 0.9}'}}",
        [],
        3,
        ("override_generation_config", "remove it"),
    ),
    "key of another kind": (
        "include: [runs/quickstart]\n"
        "curriculum: {stages: {easy: {exit: {kind: target, at_least: 0.5, every_steps: 5, "
        "max_steps: 10, patience: 2}}}}",
        [],
        3,
        ("easy.exit.patience", "remove it, or choose kind: plateau, which has it"),
    ),
    "stage that overrides the model": (
        "include: [runs/quickstart]\ncurriculum: {stages: {easy: {seed: 3}}}",
        [],
        3,
        ("curriculum.stages.easy.seed", "an unknown key"),
    ),
    "share above one": (
        "include: [runs/quickstart]\nestimates: {completion_frac: 1.5}",
        [],
        3,
        ("at most 1",),
    ),
    "unknown GPU": (
        "include: [runs/quickstart]\nestimates: {gpu: h300}",
        [],
        3,
        ("one of a100, h100, h200, b200", "did you mean h200?"),
    ),
    "learner that does not fit its GPUs": (
        "include: [runs/large/e3-llama-3.1-70b]\nlayout: {learner: {recompute: none}}",
        [],
        3,
        ("GiB too much; it fits with recompute: full",),
    ),
    "server that does not fit its GPU": (
        "include: [runs/large/e3-llama-3.1-70b]\n"
        "layout: {generation: {tp: 1}}\ncluster: {gpus_per_node: null}",
        [],
        3,
        ("room for one request", "it fits with tp: "),
    ),
}


@pytest.mark.parametrize("kind", COMPOSITIONS)
def test_a_wrong_composition_ends_with_status_2(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text, arguments, line, words = COMPOSITIONS[kind]
    path = tmp_path / "run.yaml"
    path.write_text(HEAD + text + "\n", encoding="utf-8")
    assert main(["plan", str(path), *arguments]) == 2
    answer = capsys.readouterr()
    assert answer.out == "" and "Traceback" not in answer.err
    named = [found for found in answer.err.splitlines() if all(word in found for word in words)]
    assert named, answer.err
    for found in answer.err.splitlines():
        assert ": got " in found and "; need " in found
    if line:
        assert f"run.yaml:{line}: " in named[0]


def test_there_are_at_least_eighty_kinds() -> None:
    assert len(WRONG) + len(COMPOSITIONS) >= 80


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("loss: {advantage: constant}", "loss.advantage"),
        ("task: {kind: countdwn}", "task.kind"),
        ("generation: {vllm_args: {seed: 1}}", "generation.vllm_args"),
    ],
)
def test_stages_that_inherit_a_wrong_value_name_it_once(
    tmp_path: Path, text: str, key: str
) -> None:
    found = problems_of(tmp_path, f"include: [runs/quickstart]\nname: a\n{text}\n")
    assert [problem.key for problem in found] == [key]
