"""``python verl_losses.py IN OUT``: verl's own advantages, loss and gradient for cases of a file.

Runs with verl on its path and knows nothing of e3mega. IN is JSON: ``cases`` by name, each with
verl's names and (B, T) lists; OUT gets ``loss`` and ``gradient`` by name.
"""

import json
import sys
from typing import Any

import numpy as np
import torch
from verl.trainer.config import AlgoConfig
from verl.trainer.ppo import core_algos
from verl.workers.config import ActorConfig


def loss_of(case: dict[str, Any]) -> dict[str, Any]:
    """The loss and its derivative by each token's log-probability."""
    tensors = {name: torch.tensor(rows, dtype=torch.float64) for name, rows in case["rows"].items()}
    settings, mask_BT = case["settings"], tensors["mask"]
    last_B = mask_BT.sum(1).long() - 1
    rewards_BT = torch.zeros_like(mask_BT)
    rewards_BT[torch.arange(len(last_B)), last_B] = torch.tensor(
        case["rewards"], dtype=torch.float64
    )
    estimate = core_algos.get_adv_estimator_fn(settings["estimator"])
    advantages_BT, _ = estimate(
        token_level_rewards=rewards_BT,
        response_mask=mask_BT,
        index=np.array(case["groups"]),
        config=AlgoConfig(gamma=1.0),
    )
    actor = ActorConfig(
        strategy="megatron",
        rollout_n=8,
        ppo_micro_batch_size_per_gpu=1,
        clip_ratio_low=settings.get("clip_ratio_low", 0.2),
        clip_ratio_high=settings.get("clip_ratio_high", 0.2),
        clip_ratio_c=settings.get("clip_ratio_c", 1e9),
        tau_pos=1.0,
        tau_neg=1.05,
    )
    logprobs_BT = tensors["logprobs"].requires_grad_()
    loss, _ = core_algos.get_policy_loss_fn(settings["policy"])(
        old_log_prob=tensors["old"],
        log_prob=logprobs_BT,
        advantages=advantages_BT,
        response_mask=mask_BT,
        loss_agg_mode=settings.get("mean", "token-mean"),
        config=actor,
    )
    if "kl" in settings:
        kl_BT = core_algos.kl_penalty(logprobs_BT, tensors["reference"], "low_var_kl")
        loss = loss + settings["kl"] * core_algos.agg_loss(kl_BT, mask_BT, "token-mean")
    loss.backward()
    assert logprobs_BT.grad is not None
    return {"loss": loss.item(), "gradient": logprobs_BT.grad.tolist()}


if __name__ == "__main__":
    with open(sys.argv[1]) as file:
        cases = json.load(file)
    with open(sys.argv[2], "w") as file:
        json.dump({name: loss_of(case) for name, case in cases.items()}, file)
