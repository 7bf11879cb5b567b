"""``python trl_losses.py IN OUT``: TRL's own loss and gradient for each configuration of a file.

Runs with TRL on its path and knows nothing of e3mega. IN is JSON: ``cases`` by name, each with
TRL's settings and (B, T) lists; OUT gets ``loss`` and ``gradient`` by name.
"""

import json
import sys
from types import SimpleNamespace
from typing import Any

import torch
from trl.trainer.grpo_trainer import GRPOTrainer


class _Accelerator:
    """One process: what is gathered is what is there."""

    num_processes = 1
    sync_gradients = True

    def gather(self, value: torch.Tensor, **_: Any) -> torch.Tensor:
        return value

    gather_for_metrics = gather
    reduce = gather


class _Trainer:
    """Carries the settings that ``_compute_loss`` reads; the log-probabilities are given."""

    def __init__(self, settings: dict[str, Any], logprobs_BT: torch.Tensor) -> None:
        self._logprobs_BT = logprobs_BT
        self.loss_type = settings["loss_type"]
        self.importance_sampling_level = settings.get("level", "token")
        self.epsilon_low = settings.get("epsilon_low", 0.2)
        self.epsilon_high = settings.get("epsilon_high", 0.2)
        self.beta = settings.get("beta", 0.0)
        self.max_completion_length = settings.get("max_completion_length", 0)
        self.args = SimpleNamespace(
            delta=settings.get("delta"),
            sapo_temperature_pos=1.0,
            sapo_temperature_neg=1.05,
            use_bias_correction_kl=False,
            steps_per_generation=1,
        )
        self.accelerator = _Accelerator()
        self.model = SimpleNamespace(training=True)
        self.current_gradient_accumulation_steps = 1
        self.top_entropy_quantile = 1.0
        self.off_policy_mask_threshold = None
        self.use_vllm = self.vllm_importance_sampling_correction = False
        self._entropy_bonus_enabled = self.aux_loss_enabled = self.use_adaptive_entropy = False
        self._metrics: dict[str, Any] = {"train": _Metrics(), "eval": _Metrics()}

    def _get_per_token_logps_and_entropies(self, *_: Any, **__: Any) -> tuple[Any, Any, None]:
        return self._logprobs_BT, torch.zeros_like(self._logprobs_BT), None


class _Metrics(dict):
    def __missing__(self, name: str) -> list[float]:
        self[name] = []
        return self[name]


def loss_of(case: dict[str, Any]) -> dict[str, Any]:
    """The loss and its derivative by each token's log-probability."""
    tensors = {name: torch.tensor(rows, dtype=torch.float64) for name, rows in case["rows"].items()}
    logprobs_BT = tensors["logprobs"].requires_grad_()
    mask_BT = tensors["mask"]
    batch, length = mask_BT.shape
    inputs = {
        "prompt_ids": torch.zeros(batch, 1, dtype=torch.long),
        "prompt_mask": torch.ones(batch, 1),
        "completion_ids": torch.zeros(batch, length, dtype=torch.long),
        "completion_mask": mask_BT,
        "advantages": torch.tensor(case["advantages"], dtype=torch.float64),
        "old_per_token_logps": tensors["old"],
        "ref_per_token_logps": tensors["reference"],
        "num_items_in_batch": mask_BT.sum(),
    }
    trainer: Any = _Trainer(case["settings"], logprobs_BT)
    loss = GRPOTrainer._compute_loss(trainer, None, inputs)
    loss.backward()
    assert logprobs_BT.grad is not None
    return {"loss": loss.item(), "gradient": logprobs_BT.grad.tolist()}


if __name__ == "__main__":
    with open(sys.argv[1]) as file:
        cases = json.load(file)
    with open(sys.argv[2], "w") as file:
        json.dump({name: loss_of(case) for name, case in cases.items()}, file)
