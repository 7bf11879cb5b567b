"""What each rank of a forked grid really allocates; see ``tests.warm_parent``."""

from typing import Any

import torch

from e3mega.mcore.build import build_model
from e3mega.mcore.parallel import RankGrid
from e3mega.spec.schema.optimizer import OptimizerOptions
from tests.learner_cases import tiny_model


def allocated(grid: RankGrid) -> dict[str, int]:
    """Bytes of weights, gradients and optimizer state once the optimizer has stepped."""
    learner = build_model(tiny_model(), OptimizerOptions(), grid)
    buffers = [buffer for chunk in learner.chunks for buffer in chunk.buffers]
    weights = [p for chunk in learner.chunks for p in chunk.module.parameters()]
    with torch.no_grad():
        for weight in weights:
            weight.fill_(0.1)
        for buffer in buffers:
            buffer.grad_data.fill_(0.1)
    learner.optimizer.step()
    chained: Any = getattr(learner.optimizer, "chained_optimizers", [learner.optimizer])
    states = [state for each in chained for state in each.optimizer.state.values()]
    moments = [state[name] for state in states for name in ("exp_avg", "exp_avg_sq")]
    return {
        "num_tensors": len(weights),
        "weights": sum(p.numel() * p.element_size() for p in weights),
        "gradients": sum(b.grad_data.numel() * b.grad_data.element_size() for b in buffers),
        "optimizer": sum(m.numel() * m.element_size() for m in moments),
    }
