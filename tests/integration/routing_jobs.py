"""What the ranks of a forked grid do to trace, and to hold, which experts get which tokens."""

from typing import Any

import torch

from e3mega.learner.step import train_step
from e3mega.mcore.build import LearnerModel, build_learner
from e3mega.mcore.parallel import RankGrid
from e3mega.objective.options import LossOptions
from e3mega.weights.load import load_start
from tests.family_cases import family_model
from tests.integration.grid_jobs import SUPERVISED, recorded
from tests.learner_cases import tiny_plan

# Shape letters: P tokens of a bin that this rank routes, E experts, K experts of a token.


def train(grid: RankGrid, *, init_std: float, num_steps: int, holds_routes: bool) -> dict[str, Any]:
    """Supervised steps of a small start; metrics, and the routes of this rank's layers."""
    model = family_model("qwen3-moe").model_copy(update={"init_std": init_std})
    loss = LossOptions.model_validate(SUPERVISED, strict=False)
    plan = tiny_plan(grid.layout, model=model, loss=loss)
    learner = build_learner(plan, grid)
    load_start(learner, seed=plan.seed)
    routes = Routes(learner, holds_routes=holds_routes)
    steps: list[dict[str, float]] = []
    for step in range(num_steps):
        routes.begin(step)
        steps.append(train_step(learner, recorded(step, 1.0), plan.stages[0], stage_step=step))
    return {"steps": steps, "routes": routes.found}


class Routes:
    """Sits in every router in place of Megatron's replay of recorded routes."""

    def __init__(self, learner: LearnerModel, *, holds_routes: bool) -> None:
        self.found: dict[tuple[int, int, int, int], tuple[tuple[int, ...], float]] = {}
        """By step, layer, bin and token of the bin: the experts, and by how much the last of them
        was ahead of the next."""
        self._grid = learner.grid
        self._step = self._bin = 0
        self._tokens_P = torch.zeros(0)
        for chunk in learner.chunks:
            chunk.register_forward_pre_hook(self._enter)
            for name, module in chunk.module.named_modules():
                if name.endswith("mlp.router"):
                    module.router_replay = _Router(self, int(module.layer_number), holds_routes)

    def begin(self, step: int) -> None:
        """Say which step comes."""
        self._step, self._bin = step, self._grid.place.dp_rank - self._grid.layout.dp

    def _enter(self, chunk: Any, arguments: tuple[torch.Tensor, ...]) -> None:
        self._bin += self._grid.layout.dp
        self._tokens_P = arguments[0][0]

    def own_tokens(self) -> tuple[int, torch.Tensor]:
        """Place in the bin of the first token that this rank routes, and the tokens."""
        layout = self._grid.layout
        if not layout.sequence_parallel:
            return 0, self._tokens_P
        own_P = self._tokens_P.chunk(layout.tp)[self._grid.place.tp_rank]
        return self._grid.place.tp_rank * len(own_P), own_P

    def record(self, layer: int, experts_PK: torch.Tensor, leads_P: torch.Tensor) -> None:
        """Keep the routes of a layer for the bin under way."""
        first, _ = self.own_tokens()
        rows = zip(experts_PK.sort(1).values.tolist(), leads_P.tolist(), strict=True)
        for place, (experts, lead) in enumerate(rows, first):
            self.found[self._step, layer, self._bin, place] = (tuple(experts), lead)


class _Router:
    """The choice of one layer."""

    def __init__(self, routes: Routes, layer: int, holds_routes: bool) -> None:
        self._routes, self._layer, self._holds = routes, layer, holds_routes

    def get_replay_topk(
        self, scores_PE: torch.Tensor, topk: int, *_: object, **__: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Gates and experts of each token: those of the largest scores, or ones that follow from
        the token and the layer alone, whatever the scores."""
        if self._holds:
            _, own_P = self._routes.own_tokens()
            num_experts = scores_PE.shape[1]
            first_P = (own_P + self._layer) % num_experts
            second_P = (first_P + 1 + own_P // num_experts % (num_experts - 1)) % num_experts
            experts_PK = torch.stack([first_P, second_P], dim=1)
            return scores_PE.gather(1, experts_PK), experts_PK
        ordered = scores_PE.detach().sort(1, descending=True).values
        gates_PK, experts_PK = torch.topk(scores_PE, topk, dim=1)
        self._routes.record(self._layer, experts_PK, ordered[:, topk - 1] - ordered[:, topk])
        return gates_PK, experts_PK
