"""What nemo-run's own executors for Kubernetes and clouds would send for the shipped profiles."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml

RUN = "paper/e3-qwen3-1.7b-one-node"
KUBECONFIG = """\
apiVersion: v1
kind: Config
current-context: nowhere
contexts: [{name: nowhere, context: {cluster: nowhere, user: nobody}}]
clusters: [{name: nowhere, cluster: {server: "https://127.0.0.1:1"}}]
users: [{name: nobody, user: {}}]
"""
"""Of a cluster that is not there: a dry run asks it nothing."""


def manifest(profile: str, environment: dict[str, str]) -> dict[str, Any]:
    """What a dry run says that it would send, by a process of its own.

    The Kubernetes client reads where its configuration is only once.
    """
    words = ("launch", RUN, "--on", profile, "--set", "cluster.learner_nodes=2")
    done = subprocess.run(
        [sys.executable, "-m", "e3mega.cli", *words, "--run-dir", "/shared/runs/a"],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    shown = done.stdout.split(f"{profile}.yaml\n", 1)[1]
    return yaml.safe_load(shown.split("\n# ", 1)[0].split("\na dry run", 1)[0])


@pytest.mark.skipif(find_spec("kubernetes") is None, reason="make setup EXTRAS=...,cluster")
def test_kubeflow_gets_a_train_job_that_needs_no_file_of_the_launching_machine(
    tmp_path: Path,
) -> None:
    config = tmp_path / "kubeconfig"
    config.write_text(KUBECONFIG)
    body = manifest("kubeflow", {"KUBECONFIG": str(config)})
    assert (body["apiVersion"], body["kind"]) == ("trainer.kubeflow.org/v1alpha1", "TrainJob")
    trainer = body["spec"]["trainer"]
    assert trainer["numNodes"] == 2
    assert trainer["resourcesPerNode"]["limits"] == {"nvidia.com/gpu": "8"}
    python, *words = trainer["command"]
    assert python == "/opt/e3mega/.venv/bin/python"
    assert words[:3] == ["-m", "e3mega.run.node", "/shared/runs/a"]
    assert words[3] == "--launch" and words[5:] == ["--first-node", "0"]
    (override,) = body["spec"]["podTemplateOverrides"]
    mounts = override["spec"]["containers"][0]["volumeMounts"]
    assert mounts == [{"name": "shared", "mountPath": "/shared"}]


@pytest.mark.skipif(
    find_spec("sky") is None,
    reason="SkyPilot pins versions that e3mega's environment has not: docs/clusters.md",
)
def test_skypilot_gets_a_task_with_the_nodes_and_the_bucket() -> None:
    body = manifest("skypilot", {})
    assert body["num_nodes"] == 2
    assert body["resources"]["accelerators"] == {"H100": 8}
    assert "bash /nemo_run/scripts/a-0.sh" in str(body["run"])
    assert body["file_mounts"]["/shared"]["mode"] == "MOUNT"
