"""Every named loss has the value and the gradient of its formula, derived a second time."""

import re

import numpy as np
import pytest

from e3mega.spec.files import LIBRARY
from tests.loss_cases import computed, options_of
from tests.loss_formulas import FORMULAS, HAND, derive, hand_case, random_case

FRAGMENTS = sorted(path.stem for path in (LIBRARY / "fragments" / "loss").glob("*.yaml"))


def test_every_named_loss_is_derived() -> None:
    assert sorted(FORMULAS) == FRAGMENTS
    assert set(HAND) == set(FORMULAS) - {"passk"}


@pytest.mark.parametrize("name", FRAGMENTS)
def test_a_fragment_and_the_page_tell_formula_and_source(name: str) -> None:
    text = (LIBRARY / "fragments" / "loss" / f"{name}.yaml").read_text(encoding="utf-8")
    comment = "\n".join(line for line in text.splitlines() if line.startswith("#"))
    page = (LIBRARY.parent / "docs" / "objectives.md").read_text(encoding="utf-8")
    (row,) = [line for line in page.splitlines() if re.match(rf"\|.*`{name}`.*\|.*\|.*\|$", line)]
    if name not in ("sft", "negative_only"):
        sources = set(re.findall(r"\d{4}\.\d{5}", comment))
        assert sources and sources & set(re.findall(r"\d{4}\.\d{5}", row)), "a paper"
    assert len(row.split("|")[2]) > 10, "a formula"


@pytest.mark.parametrize("name", FRAGMENTS)
def test_loss_and_gradient_are_those_of_the_formula(name: str) -> None:
    steepest = 0.0
    for seed in range(5):
        case = random_case(seed)
        terms, slopes = computed(case, options_of(name))
        wanted = derive(name, case)
        assert terms.loss.item() == pytest.approx(wanted.loss, rel=1e-9, abs=1e-12)
        np.testing.assert_allclose(slopes, wanted.slopes, rtol=1e-9, atol=1e-12)
        steepest = max(steepest, np.abs(slopes).max())
    assert steepest > 1e-3, "the cases have a gradient"


@pytest.mark.parametrize("name", HAND)
def test_a_small_case_has_the_loss_worked_by_hand(name: str) -> None:
    terms, _ = computed(hand_case(), options_of(name))
    assert terms.loss.item() == pytest.approx(HAND[name], rel=1e-9)
