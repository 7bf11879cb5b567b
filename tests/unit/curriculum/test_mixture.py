"""The order in which prompts come, against counting."""

from collections import Counter

import pytest

from e3mega.curriculum.mixture import Mixture, PromptFacts, belongs, comes_again, mixture_of
from e3mega.curriculum.options import AdmissionOptions, DataOptions, DataPart

EASY, HARD = tuple(range(10)), tuple(range(10, 40))


def mixture(**parts: DataPart) -> Mixture:
    return Mixture({"easy": EASY, "hard": HARD}, parts, entropy=(1, 2))


def test_weights_are_kept_over_every_128_places() -> None:
    order = mixture(easy=DataPart(weight=3.0), hard=DataPart(weight=1.0))
    for start in (0, 128, 1280):
        drawn = [order.at(place) for place in range(start, start + 128)]
        assert abs(sum(number in EASY for number in drawn) - 96) <= 1


@pytest.mark.parametrize("weights", [(1, 300), (1, 1, 1), (7, 3), (5, 1, 1, 1, 0.01), (0.2, 9)])
def test_weights_are_kept_over_the_whole_stream(weights: tuple[float, ...]) -> None:
    """Against counting: at every place each part has had its share to within one prompt."""
    names = [str(number) for number in range(len(weights))]
    members = {name: (number,) for number, name in enumerate(names)}
    parts = {name: DataPart(weight=w) for name, w in zip(names, weights, strict=True)}
    order = Mixture(members, parts, entropy=(1, 2))
    counts = [0] * len(weights)
    for place in range(5000):
        number = order.at(place)
        assert number is not None
        counts[number] += 1
        shares = [(place + 1) * weight / sum(weights) for weight in weights]
        assert all(abs(c - s) <= 1 for c, s in zip(counts, shares, strict=True)), place


def test_each_prompt_comes_once_before_any_comes_again() -> None:
    order = mixture(easy=DataPart(), hard=DataPart())
    easy = [n for n in (order.at(place) for place in range(256)) if n in EASY]
    epochs = [easy[at : at + 10] for at in range(0, 100, 10)]
    assert all(sorted(epoch) == list(EASY) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 5


def test_a_limited_part_leaves_its_share_to_the_others() -> None:
    order = mixture(easy=DataPart(max_repeats=2), hard=DataPart())
    counts = Counter(order.at(place) for place in range(1280))
    assert all(counts[number] == 2 for number in EASY)
    assert sum(counts[number] for number in HARD) == 1260


def test_a_mixture_of_limited_parts_ends() -> None:
    order = mixture(easy=DataPart(max_repeats=1), hard=DataPart(max_repeats=3))
    drawn = [order.at(place) for place in range(100)]
    assert Counter(drawn) == Counter([*EASY, *(HARD * 3)])
    assert (order.at(100), order.at(10_000)) == (None, None)


def test_a_place_gives_the_same_prompt_in_whatever_order_it_is_asked() -> None:
    forward, backward = (mixture(easy=DataPart(), hard=DataPart(weight=0.3)) for _ in "ab")
    there = [forward.at(place) for place in range(400)]
    back = [backward.at(place) for place in reversed(range(400))]
    assert there == back[::-1]


@pytest.mark.parametrize(
    ("part", "kept"),
    [
        (DataPart(), [0, 1, 2, 3]),
        (DataPart(slices=("hard",)), [2, 3]),
        (DataPart(min_pass_rate=0.5), [1]),
        (DataPart(max_pass_rate=0.5, slices=("easy",)), [0]),
        (DataPart(min_pass_rate=0.0), [0, 1, 2]),
    ],
)
def test_filters_read_slice_and_graded_pass_rate(part: DataPart, kept: list[int]) -> None:
    facts = [
        PromptFacts("easy", 0.25),
        PromptFacts("easy", 0.75),
        PromptFacts("hard", 0.0),
        PromptFacts("hard", None),
    ]
    assert [n for n, each in enumerate(facts) if belongs(each, part)] == kept
    order = mixture_of(facts, DataOptions(parts={"a": part}), entropy=(1,))
    assert {order.at(place) for place in range(128)} == set(kept)


def test_solved_and_refused_prompts_do_not_come_again() -> None:
    solved = DataOptions(drops_solved=True)
    assert [comes_again(rate, solved) for rate in (None, 0.0, 0.99, 1.0)] == [True] * 3 + [False]
    bounds = AdmissionOptions(min_pass_rate=0.1, max_pass_rate=0.9)
    admitted = DataOptions(admission=bounds)
    rates = (None, 0.0, 0.1, 0.9, 1.0)
    assert [comes_again(rate, admitted) for rate in rates] == [True, False, True, True, False]
