"""The prompts of a stage by their place in its stream, and which of them a round takes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from e3mega.curriculum.mixture import Mixture, PromptFacts, belongs, comes_again, mixture_of
from e3mega.curriculum.options import DataOptions
from e3mega.errors import E3Error
from e3mega.tasks.interface import Prompt, Task

_MIXTURE = 7
"""Number of the mixture's random stream behind the seed."""


@dataclass(frozen=True, slots=True)
class Taken:
    """Places that a round takes. Example: ``Taken((4, 5, 7), 8)``."""

    places: tuple[int, ...]
    next_place: int
    """Where the next round goes on looking."""
    returned: tuple[int, ...] = ()
    """Of the places that earlier rounds gave back, those not taken."""


class PromptSource:
    """The stream of one stage: the task's own, or the mixture of its parts.

    A place gives the same prompt whenever it is asked for.
    """

    def __init__(self, task: Task, options: DataOptions, *, seed: int, stage_index: int) -> None:
        self._task = task
        self._options = options
        self._entropy = (seed, _MIXTURE, stage_index)

    @cached_property
    def _facts(self) -> list[PromptFacts]:
        """Of the prompts, numbered as in the first epoch of the task's own stream."""
        prompts = [self._task.training_prompt(n) for n in range(self._task.num_training)]
        return [PromptFacts(prompt.slice_name, prompt.pass_rate) for prompt in prompts]

    @cached_property
    def _mixture(self) -> Mixture:
        return mixture_of(self._facts, self._options, entropy=self._entropy)

    def check_parts(self) -> None:
        """E3Error naming a part of the mixture that no prompt of the task is in."""
        for name, part in self._options.parts.items():
            if not any(belongs(facts, part) for facts in self._facts):
                slices = ", ".join(sorted({facts.slice_name for facts in self._facts}))
                num_graded = sum(facts.pass_rate is not None for facts in self._facts)
                raise E3Error(
                    f"data.parts.{name} holds no prompt; the task's slices are {slices}, and "
                    f"{num_graded} of its {len(self._facts)} prompts have a graded pass rate; "
                    "widen its slices or pass rates, grade the data set, or remove the part"
                )

    def prompt(self, place: int) -> Prompt | None:
        """The prompt at a place; None behind the end of a limited stream."""
        if not self._options.parts:
            return self._task.training_prompt(place)
        number = self._mixture.at(place)
        return None if number is None else self._task.training_prompt(number)

    def prompts(self, places: Sequence[int]) -> list[Prompt]:
        """The prompts at places that a round has taken."""
        prompts = [self.prompt(place) for place in places]
        assert None not in prompts, "a round takes only places that hold a prompt"
        return [prompt for prompt in prompts if prompt is not None]

    def first(self, count: int) -> list[Prompt]:
        """The first ``count`` different problems of the stream, fewer if it has fewer.

        Raises E3Error when it has none.
        """
        found: dict[str, Prompt] = {}
        for place in range(8 * max(count, self._task.num_training)):
            prompt = self.prompt(place)
            if prompt is None or len(found) == min(count, self._task.num_training):
                break
            found.setdefault(prompt.problem, prompt)
        if not found:
            raise E3Error(
                "no prompt of the task passes the filters of the stage's data.parts; widen its "
                "slices or pass rates, or grade the data set first"
            )
        return list(found.values())

    def take(
        self, count: int, start: int, pass_rates: Mapping[str, float], *, returned: Sequence[int]
    ) -> Taken:
        """The next ``count`` places whose prompts may come, fewer at the end.

        Those that earlier rounds gave back come first, then those from ``start``. ``pass_rates``
        holds the share of right samples of each problem's last visit. The stream has ended when a
        whole epoch of it holds no prompt that may come.
        """
        back = [
            place
            for place, prompt in zip(returned, self.prompts(returned), strict=True)
            if comes_again(pass_rates.get(prompt.problem), self._options)
        ]
        places, left = back[:count], tuple(back[count:])
        place, num_refused = start, 0
        while len(places) < count and num_refused <= self._task.num_training:
            prompt = self.prompt(place)
            if prompt is None:
                break
            if comes_again(pass_rates.get(prompt.problem), self._options):
                places.append(place)
                num_refused = 0
            else:
                num_refused += 1
            place += 1
        return Taken(tuple(places), place, left)
