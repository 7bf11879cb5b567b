"""Writes a synthetic run folder that has all the report draws (``python -m`` this, DIR)."""

import argparse
import json
import math
import random
from pathlib import Path

from e3mega.metrics import Json
from e3mega.plan.paths import RunPaths
from tests.data.recorded_rollouts import write_plan, write_rollouts

BUDGETS = (32, 64, 128, 256)
WARMUP_STEPS, EASY_STEPS, HARD_STEPS = 300, 40, 40
ACCURACY = {
    "base": {"easy": (0.22, 0.28, 0.30, 0.30), "hard": (0.08, 0.11, 0.12, 0.12)},
    "easy": {"easy": (0.34, 0.50, 0.62, 0.66), "hard": (0.13, 0.22, 0.29, 0.33)},
    "hard": {"easy": (0.33, 0.53, 0.72, 0.81), "hard": (0.14, 0.25, 0.39, 0.50)},
}
ATTEMPTS = {"base": 2.9, "easy": 4.7, "hard": 7.4}


class Recorder:
    """Metrics of one synthetic run; every number derives from the seed."""

    def __init__(self, run_dir: Path, *, name: str, seed: int, scale: float) -> None:
        self.paths = RunPaths(run_dir)
        self.random = random.Random(seed)
        self.name = name
        self.seed = seed
        self.scale = scale
        self.version = 0
        self.round = 0
        self.time = 1_760_000_000.0
        self.lines: list[str] = []

    def write(self, event: str, **values: Json) -> None:
        seconds = values.get("total_s")
        self.time += seconds if isinstance(seconds, float) else 0.02
        line = {"time": self.time, "event": event, **values}
        self.lines.append(json.dumps(line) + "\n")

    def noise(self, size: float) -> float:
        return self.random.gauss(0.0, size)

    def evaluate(self, label: str, stage: str) -> None:
        curves = {
            half: [p * self.scale + self.noise(0.008) for p in ACCURACY[label][half]]
            for half in ("easy", "hard")
        }
        curves["all"] = [(e + h) / 2 for e, h in zip(curves["easy"], curves["hard"], strict=True)]
        for half, curve in curves.items():
            count = 512 if half == "all" else 256
            self.write(
                "evaluation",
                label=label,
                stage=stage,
                version=self.version,
                slice=half,
                budgets=list(BUDGETS),
                accuracy=list(curve),
                stderr=[math.sqrt(p * (1 - p) / count) for p in curve],
                mean_attempts=ATTEMPTS[label] * (1.2 if half == "hard" else 1.0),
                mean_length=ATTEMPTS[label] * 11.0,
                truncated=[0.9, 0.6, 0.35 if label == "hard" else 0.1, 0.12],
                num_problems=count,
            )

    def pass_k(self, label: str) -> None:
        at = ACCURACY["hard" if label == "end" else label]
        p = sum(at[half][2] for half in ("easy", "hard")) / 2
        values = [1 - (1 - p) ** (k**0.8) for k in (1, 2, 4, 8)]
        self.write(
            "pass_k",
            label=label,
            k=[1, 2, 4, 8],
            pass_at_k=list(values),
            stderr=[math.sqrt(v * (1 - v) / 128) for v in values],
            num_problems=128,
            num_samples=8,
            budget_tokens=128,
        )

    def stage(self, name: str, index: int, mode: str, budget: int) -> None:
        self.write(
            "stage_started",
            stage=name,
            index=index,
            mode=mode,
            budget_tokens=budget,
            version=self.version,
        )

    def round_of(self, stage: str, *, generation_s: float, train_s: float) -> None:
        self.round += 1
        phases: dict[str, float] = {
            "generation_s": generation_s * (1 + self.noise(0.06)),
            "verify_s": 0.05 if generation_s else 0.0,
            "pack_s": 0.04,
            "train_s": train_s * (1 + self.noise(0.05)),
            "sync_s": 0.09 if generation_s else 0.0,
            "canary_s": 0.12 if generation_s else 0.0,
            "checkpoint_s": 0.9 if self.round % 10 == 0 else 0.0,
        }
        self.write(
            "round",
            stage=stage,
            round=self.round,
            version=self.version,
            **phases,
            total_s=sum(phases.values()) + 0.03,
            canary_max_abs_diff=abs(self.noise(4e-6)),
            canary_max_abs_change=0.02,
            sync_bytes=2_600_000,
            num_redrawn=0,
        )
        if generation_s:
            self.write("sync", version=self.version, seconds=0.09, bytes=2_600_000, num_tensors=36)
            self.write(
                "canary",
                version=self.version,
                num_tokens=512,
                max_abs_diff=abs(self.noise(4e-6)),
                max_abs_change_diff=abs(self.noise(5e-6)),
            )

    def warm_up(self) -> None:
        self.stage("warmup", 0, "supervised", 128)
        for at in range(1, WARMUP_STEPS + 1):
            self.version += 1
            self.write(
                "step",
                stage="warmup",
                mode="supervised",
                step=self.version,
                stage_step=at,
                stage_max_steps=WARMUP_STEPS,
                round=at,
                version=self.version - 1,
                lag=0,
                loss=1.2 + 3.4 * math.exp(-at / 30) + self.noise(0.03),
                grad_norm=abs(0.6 + self.noise(0.1)),
                learning_rate=2e-3,
                entropy=1.1,
                entropy_correct=math.nan,
                entropy_incorrect=math.nan,
                clip_frac=0.0,
                tokens_trained=6144,
            )
            if at % 10 == 0:
                self.round_of("warmup", generation_s=0.0, train_s=3.0)
            if at % 50 == 0:
                self.recognise(at)
        self.write("stage_finished", stage="warmup", version=self.version, reason="recognition")

    def recognise(self, at: int) -> None:
        hit = 1 / (1 + math.exp(-(at - 160) / 25))
        self.write(
            "recognition",
            stage="warmup",
            step=self.version,
            hit_frac=hit,
            false_hit_frac=0.3 * math.exp(-at / 70),
            num_attempts=512,
            is_enough=hit >= 0.95,
        )

    def train(self, name: str, index: int, budget: int, steps: int, before: str) -> None:
        self.stage(name, index, "rl", budget)
        low, high = ATTEMPTS[before], ATTEMPTS[name]
        for at in range(1, steps + 1):
            self.version += 1
            done = at / steps
            attempts = low + (high - low) * done + self.noise(0.15)
            self.write(
                "step",
                stage=name,
                mode="rl",
                step=self.version,
                stage_step=at,
                stage_max_steps=steps,
                round=self.round + 1,
                version=self.version - 1,
                lag=0,
                loss=self.noise(0.02),
                grad_norm=abs(0.35 + self.noise(0.06)),
                learning_rate=3e-4,
                entropy=0.8 + 0.2 * done + self.noise(0.02),
                entropy_correct=0.7 + self.noise(0.02),
                entropy_incorrect=0.85 + 0.25 * done + self.noise(0.02),
                clip_frac=0.01,
                tokens_trained=256 * 40,
                reward_mean=self.scale * (0.28 + 0.24 * done) + self.noise(0.02),
                num_rollouts=256,
                length_correct=26 + 8 * done + self.noise(1.0),
                length_incorrect=min(budget, 32 + 40 * done) + self.noise(1.0),
                attempts_correct=attempts * 0.6,
                attempts_mean=attempts,
                attempts_incorrect=attempts * 1.1,
                truncated_frac=min(0.9, 0.1 + 0.6 * done + self.noise(0.02)),
                **self.signs(done),
                tokens_generated=256 * 42,
            )
            self.round_of(name, generation_s=1.1 * budget / 64, train_s=1.4)
        self.write("stage_finished", stage=name, version=self.version, reason="steps")

    def signs(self, done: float) -> dict[str, float]:
        return {
            "tokens_positive_frac": 0.3 + 0.1 * done,
            "tokens_negative_frac": 0.6 - 0.1 * done,
            "logit_grad_norm_positive": abs(0.02 + self.noise(0.002)),
            "logit_grad_norm_negative": abs(0.025 + self.noise(0.002)),
            "clip_positive_frac": 0.01,
            "clip_negative_frac": 0.005,
            "stop_after_failed_check": 0.3 - 0.25 * done,
            "repetition_frac": 0.02,
            "unique_attempts_correct": 1.5 + done,
            "unique_attempts_incorrect": 2.0 + 4 * done + self.noise(0.1),
        }

    def decide(self) -> None:
        self.write(
            "budget_decision",
            stage="hard",
            candidates=[32, 64, 128],
            budgets=list(BUDGETS),
            accuracy=[0.12, 0.21, 0.28, 0.31],
            ratios=[1.75, 1.33, 1.11],
            ratio_low=[1.52, 1.22, 1.03],
            ratio_high=[2.05, 1.46, 1.18],
            kappa=1.2,
            chosen=128,
            reason="decided",
            num_problems=512,
            num_samples=2,
        )

    def finish(self) -> None:
        self.write(
            "ledger",
            version=self.version,
            prompts_issued=32 * 80,
            prompts_answered=32 * 80,
            prompts_lost=0,
            generated={"rollouts": 256 * 80, "tokens": 256 * 42 * 80},
            trained={"rollouts": 256 * 80, "tokens": 256 * 40 * 80},
            evaluated={"rollouts": 512 * 3, "tokens": 512 * 3 * 90},
            discarded={},
            batches_by_lag={"0": 80},
        )
        self.write("run_finished", version=self.version)
        path = self.paths.metrics("loop")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(self.lines))


def write_recorded_run(
    run_dir: Path, *, name: str, seed: int, scale: float = 1.0, with_rollouts: bool = True
) -> Path:
    """Write metrics, resolved spec, plan and rollouts of a run that went well; the folder.

    ``scale`` multiplies its accuracies. Without rollouts the plan is left out, too.
    """
    recorder = Recorder(run_dir, name=name, seed=seed, scale=scale)
    recorder.write("run_started", name=name, seed=seed, fingerprint="0" * 64, attempt=1)
    recorder.warm_up()
    recorder.evaluate("base", "easy")
    recorder.pass_k("base")
    recorder.train("easy", 1, 64, EASY_STEPS, "base")
    recorder.evaluate("easy", "easy")
    recorder.decide()
    recorder.train("hard", 2, 128, HARD_STEPS, "easy")
    recorder.evaluate("hard", "hard")
    recorder.pass_k("end")
    recorder.finish()
    recorder.paths.resolved.write_text(
        f"name: {name}  # specs/runs/quickstart.yaml:1\n"
        "rollout:\n  prompts_per_step: 32  # schema default\n"
        f"seed: {seed}  # --set\n"
    )
    if with_rollouts:
        write_rollouts(recorder.paths, write_plan(recorder.paths, name=name, seed=seed))
    return run_dir


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run_dir", type=Path)
    parser.add_argument("--name", default="recorded")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--scale", type=float, default=1.0)
    options = parser.parse_args()
    write_recorded_run(options.run_dir, name=options.name, seed=options.seed, scale=options.scale)
