"""A pinned spec holds the checksums of what it names, and resolves to the same run with them."""

import hashlib
from pathlib import Path

import pytest

from e3mega.cli import main
from e3mega.errors import CheckpointError, E3Error
from e3mega.families.folder_digest import folder_digest
from e3mega.spec.pin import pinned_text, pins
from e3mega.spec.resolve import resolve_spec
from e3mega.tasks.multiplication.options import MultiplicationOptions
from e3mega.tasks.pinned import check_pin, data_sha256
from e3mega.weights.load import check_digest

MATH = """include: [runs/paper/e3-qwen3-1.7b]
name: mine
model: {{hf_path: {model}}}
curriculum:
  stages:
    easy: {{task: {{source: {data}}}}}
"""


def weights_folder(folder: Path) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"weights")
    return folder


def test_files_are_pinned_by_their_bytes_and_hub_names_by_their_commit(tmp_path: Path) -> None:
    model, data = weights_folder(tmp_path / "model"), tmp_path / "easy.jsonl"
    data.write_text('{"problem": "1 + 1", "answer": "2"}\n')
    path = tmp_path / "run.yaml"
    path.write_text(MATH.format(model=model, data=data))
    found = pins(resolve_spec(path).options, lambda name: f"commit of {name}")
    assert found == {
        ("model", "hf_sha256"): folder_digest(model),
        ("curriculum", "stages", "easy", "task", "sha256"): hashlib.sha256(
            data.read_bytes()
        ).hexdigest(),
        ("curriculum", "stages", "medhard", "task", "revision"): (
            "commit of CMU-AIRe/e3-math-medhard"
        ),
    }
    pinned = tmp_path / "pinned.yaml"
    pinned.write_text(pinned_text("./run", "mine", found))
    options = resolve_spec(pinned).options
    assert options.model.hf_sha256 == folder_digest(model)
    assert options.curriculum.stages["medhard"].task.model_dump()["revision"].startswith("commit")


def test_a_digest_follows_weights_and_configuration_only(tmp_path: Path) -> None:
    folder = weights_folder(tmp_path / "model")
    before = folder_digest(folder)
    (folder / "README.md").write_text("a note")
    assert folder_digest(folder) == before
    (folder / "model.safetensors").write_bytes(b"other")
    assert folder_digest(folder) != before


def test_the_command_writes_a_spec_that_includes_the_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["pin", "quickstart", "--out", str(tmp_path / "pinned.yaml")]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "pinned.yaml")
    assert resolve_spec(tmp_path / "pinned.yaml").options.name == "quickstart"


def test_a_job_refuses_a_folder_that_is_not_the_pinned_one(tmp_path: Path) -> None:
    folder = weights_folder(tmp_path / "model")
    check_digest(folder, None)
    check_digest(folder, folder_digest(folder))
    with pytest.raises(CheckpointError, match="hf_sha256 asks for"):
        check_digest(folder, "0" * 64)


DATA = """include: [runs/paper/multiplication-verified]
name: mine
task: {{problems: {problems}, traces: {traces}}}
"""


def test_files_of_a_task_are_pinned_and_a_job_refuses_others(tmp_path: Path) -> None:
    problems, traces = tmp_path / "problems.parquet", tmp_path / "traces.jsonl"
    problems.write_bytes(b"problems")
    traces.write_text('{"problem": "2 * 3", "text": "6"}\n')
    path = tmp_path / "run.yaml"
    path.write_text(DATA.format(problems=problems, traces=traces))
    found = pins(resolve_spec(path).options, str)
    digests = {
        f"{name}_sha256": hashlib.sha256(file.read_bytes()).hexdigest()
        for name, file in (("problems", problems), ("traces", traces))
    }
    assert {key[-1]: value for key, value in found.items() if key[0] == "task"} == digests
    pinned = tmp_path / "pinned.yaml"
    pinned.write_text(pinned_text("./run", "mine", found))
    task = resolve_spec(pinned).options.task
    assert isinstance(task, MultiplicationOptions)
    assert task.traces is not None
    check_pin("task.traces", task.traces, task.traces_sha256)
    traces.write_text("other")
    with pytest.raises(E3Error, match=r"task\.traces = .*pin these with e3mega pin"):
        check_pin("task.traces", task.traces, task.traces_sha256)


def test_a_folder_of_data_is_pinned_by_all_its_files(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "state.json").write_text("{}")
    (folder / "rows.arrow").write_bytes(b"rows")
    path = tmp_path / "run.yaml"
    path.write_text(MATH.format(model=weights_folder(tmp_path / "model"), data=folder))
    key = ("curriculum", "stages", "easy", "task", "sha256")
    before = pins(resolve_spec(path).options, str)[key]
    assert before == data_sha256(folder)
    (folder / "rows.arrow").write_bytes(b"more")
    assert pins(resolve_spec(path).options, str)[key] != before


def test_what_is_not_on_the_machine_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("include: [runs/paper/multiplication]\nname: mine\ntask: {traces: no.jsonl}\n")
    assert main(["pin", str(path)]) == 0
    printed = capsys.readouterr()
    assert "task.traces = no.jsonl" in printed.err
    assert "# not pinned, since it is not on the machine: task.traces = no.jsonl" in printed.out
    assert "model.hf_path = " in printed.err
