"""Divides the Countdown problems into those trained on and those held out."""

from dataclasses import dataclass

import numpy as np

from e3mega.tasks.countdown.options import CountdownOptions, Half
from e3mega.tasks.countdown.problems import Problem, all_problems


@dataclass(frozen=True, slots=True)
class Split:
    """Problems of both halves by use, each in a fixed order drawn from the seed."""

    training: dict[Half, tuple[Problem, ...]]
    held_out: dict[Half, tuple[Problem, ...]]


def split_problems(options: CountdownOptions, seed: int) -> Split:
    """Divide each half into training and held-out problems; depends on no other option.

    A problem is a multiset of numbers with a target, so a held-out problem is not trained on in
    any order of its numbers.
    """
    training: dict[Half, tuple[Problem, ...]] = {}
    held_out: dict[Half, tuple[Problem, ...]] = {}
    for position, half in enumerate((Half.EASY, Half.HARD)):
        problems = all_problems(options)[half]
        rng = np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, 1, position])))
        shuffled = [problems[i] for i in rng.permutation(len(problems))]
        num_held_out = round(len(shuffled) * options.held_out_frac)
        held_out[half] = tuple(shuffled[:num_held_out])
        training[half] = tuple(shuffled[num_held_out:])
    return Split(training, held_out)
