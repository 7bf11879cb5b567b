"""The small run from the command line to its end, and what it leaves."""

import json
import re

import numpy as np
import pytest
from datasets import load_dataset

from e3mega.plan.planfile import read_plan
from e3mega.rollout.ledger import Amount, read_ledger
from tests.e2e.hf_reference import hf_logits
from tests.e2e.live_run import Finished
from tests.warm_parent import WarmParent

pytestmark = pytest.mark.e2e


def test_the_last_lines_tell_what_came_of_it(finished: Finished) -> None:
    paths, text = finished.run.paths, "\n".join(finished.lines)
    assert "quickstart-small finished" in text
    table = text[: text.index("quickstart-small finished")].splitlines()[-20:]
    for word in ("base", "easy", "hard", "±"):
        assert word in "\n".join(table), table
    assert finished.lines[-2].replace("page:", "").strip() == str(paths.report)
    assert finished.lines[-1].replace("export:", "").strip() == str(paths.export)


def test_nothing_is_left_in_shared_memory(finished: Finished) -> None:
    assert not finished.run.paths.shared_memory.exists()
    assert finished.run.paths.key.stat().st_mode & 0o777 == 0o600


def test_the_page_stands_alone(finished: Finished) -> None:
    page = finished.run.paths.report.read_text()
    assert page.count("data:image/") + page.count("<svg") >= 8
    assert not re.search(r"""(src|href)=["'](https?:)?//""", page)


def test_every_rollout_is_kept_and_counted(finished: Finished) -> None:
    files = sorted(map(str, finished.run.paths.rollouts.rglob("*.parquet")))
    rows = load_dataset("parquet", data_files=files, split="train")
    tokens = sum(len(ids) for ids in rows["token_ids"])
    names = {"time", "event", "stage", "version"}
    counts = {name: n for name, n in finished.last("ledger").items() if name not in names}
    ledger = read_ledger(json.dumps(counts))
    ledger.check(is_drained=True)
    assert ledger.generated == Amount(len(rows), tokens)
    by_purpose = [row == "train" for row in rows["purpose"]]
    assert ledger.trained.rollouts == sum(by_purpose)
    assert ledger.evaluated.rollouts == len(rows) - sum(by_purpose)
    assert ledger.prompts_lost == ledger.prompts_redrawn == ledger.prompts_reused == 0
    assert ledger.batches_by_lag == {0: 3}
    assert not list(finished.run.paths.rollouts.rglob("*.jsonl")), "every journal was closed"


def test_every_stage_was_measured(finished: Finished) -> None:
    plan = read_plan(finished.run.paths.plan)
    labels = [event["label"] for event in finished.run.events("evaluation")]
    assert list(dict.fromkeys(labels)) == ["base", "easy", "hard"]
    assert [event["label"] for event in finished.run.events("pass_k")] == ["base", "end"]
    (decision,) = finished.run.events("budget_decision")
    assert decision["chosen"] in (64, 128)
    steps = finished.run.events("step")
    assert [step["step"] for step in steps] == list(range(1, len(steps) + 1))
    assert finished.last("checkpoint")["version"] == len(steps)
    assert {event["stage"] for event in finished.run.events("stage_finished")} == {
        stage.name for stage in plan.stages
    }


def test_the_export_has_the_learners_logits(finished: Finished, warm_parent: WarmParent) -> None:
    paths = finished.run.paths
    plan = read_plan(paths.plan)
    rng = np.random.default_rng(3)
    tokens = [int(token) for token in rng.integers(0, plan.model.vocab_size, 150)]
    ranks = warm_parent.run(
        plan.layout.learner,
        "tests.e2e.learner_jobs:logits",
        run_dir=str(paths.run_dir),
        token_ids=tokens,
    )
    (hf_TV,) = hf_logits(paths.export, [tokens])
    learner_TV = np.concatenate(ranks, axis=1)[:, : hf_TV.shape[1]]
    assert np.abs(hf_TV).max() > 1, "the logits are not all alike"
    np.testing.assert_allclose(hf_TV, learner_TV, atol=1e-4, rtol=0)
