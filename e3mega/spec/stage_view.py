"""One stage of a spec as the rules of its sections see it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

from e3mega.curriculum.allowance import possible_budgets
from e3mega.curriculum.options import CoupledBudget, FixedBudget, RampBudget
from e3mega.spec.findings import Finding
from e3mega.spec.origins import Key
from e3mega.spec.schema.curriculum import StageMode, StageOptions
from e3mega.spec.schema.run import RunOptions
from e3mega.tasks.sizes import max_prompt_tokens

CONTEXT: Key = ("model", "max_context_tokens")


@dataclass(frozen=True, slots=True)
class StageView:
    """One stage with what its rules need of the run."""

    options: RunOptions
    name: str
    stage: StageOptions

    def key(self, *parts: str) -> Key:
        """The key of a value of this stage."""
        return ("curriculum", "stages", self.name, *parts)

    @property
    def is_rl(self) -> bool:
        """Whether the generation tier makes the completions."""
        return self.stage.mode is StageMode.RL

    @property
    def room_tokens(self) -> int:
        """Tokens of the model's context behind the longest prompt."""
        return self.options.model.max_context_tokens - max_prompt_tokens(self.stage.task)

    @property
    def budget_key(self) -> Key:
        """The key that holds the budget or the list of budgets."""
        names = {FixedBudget: "tokens", RampBudget: "levels", CoupledBudget: "candidates"}
        return self.key("budget", names[type(self.stage.budget)])

    @property
    def largest_budget(self) -> int:
        """The largest budget that the stage may train at; 0 if it has none."""
        return max(possible_budgets(self.stage.budget), default=0)


Rule = Callable[[StageView], Iterator[Finding]]


def ascends(numbers: tuple[int, ...]) -> bool:
    """Whether there is at least one number and each is larger than the one before."""
    return bool(numbers) and all(a < b for a, b in pairwise(numbers))
