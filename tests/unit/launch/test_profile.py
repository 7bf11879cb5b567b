"""Profiles of sites: what is wrong in one is told with its line and the nearest right name."""

from pathlib import Path

import pytest

from e3mega.errors import E3Error, SpecError
from e3mega.launch.profile import Kind, cluster_sets, find_profile, read_profile
from e3mega.plan.paths import launchers_dir


def problems_of(tmp_path: Path, text: str) -> str:
    path = tmp_path / "site.yaml"
    path.write_text(text)
    with pytest.raises(SpecError) as caught:
        read_profile(path)
    return str(caught.value).replace(str(tmp_path), "")


@pytest.mark.parametrize("path", sorted(launchers_dir().glob("*.yaml")), ids=lambda p: p.stem)
def test_a_shipped_profile_is_right(path: Path) -> None:
    profile = read_profile(path)
    assert profile.options.kind in Kind
    assert not any("null" in text for text in cluster_sets(profile, ()))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "kind: slurm\nexecutor:\n  account: a\n  partitoin: b\n",
            "/site.yaml:4: executor.partitoin: got an unknown key; need a field of SlurmExecutor; "
            "did you mean partition?",
        ),
        ("kind: slurm\nexecutor:\n  nodes: 2\n", "set cluster.learner_nodes"),
        ("kind: slurm\nexecutor:\n  exclusive: [1]\n", "/site.yaml:3: executor.exclusive"),
        ("kind: slrum\n", "/site.yaml:1: kind"),
        ("kind: local\nenvironment: {A: b}\n", "environment: got an unknown key"),
        ("kind: local\ntunnel: {host: a}\n", "kind: slurm"),
        ("kind: kubeflow\nsetup: module load a\n", "need kind: slurm or skypilot"),
        ("kind: skypilot\nchain:\n  jobs: 2\n", "/site.yaml:3: chain: got chain with kind"),
        ("kind: slurm\ntunnel:\n  hots: a\n", "did you mean host?"),
        ("kind: local\nenv:\n  WANDB_API_KEY: abc\n", "use pass_env: [WANDB_API_KEY]"),
    ],
)
def test_what_is_wrong_in_a_profile_is_told_with_its_line(
    tmp_path: Path, text: str, words: str
) -> None:
    assert words in problems_of(tmp_path, text)


def test_an_unknown_profile_is_told_with_the_nearest_name() -> None:
    with pytest.raises(E3Error, match=r"did you mean slurm\?"):
        find_profile("slrum")


def test_a_value_that_is_set_by_hand_wins_over_the_profile(tmp_path: Path) -> None:
    path = tmp_path / "site.yaml"
    path.write_text("kind: slurm\ncluster: {learner_nodes: 2, max_restarts: 3}\n")
    sets = cluster_sets(read_profile(path), ["cluster.learner_nodes=4", "seed=2"])
    assert sets == ["cluster.max_restarts=3"]
