"""The rank grid that a converted checkpoint is laid out for, checked by the planner's rules."""

import math
from functools import reduce

from e3mega.errors import CheckpointError
from e3mega.families.geometry import ModelOptions
from e3mega.spec import layout_rules
from e3mega.spec.findings import Finding
from e3mega.spec.origins import dotted
from e3mega.spec.schema.layout import LayoutOptions, LearnerLayout
from e3mega.spec.schema.run import RunOptions

_RULES = (
    layout_rules.learner_tp_divides_the_model,
    layout_rules.stages_divide_the_layers,
    layout_rules.expert_grid_fits_the_stage,
    layout_rules.experts_are_divided,
)


def grid_of(model: ModelOptions, *, tp: int, pp: int, ep: int) -> LearnerLayout:
    """The smallest grid with these axes; raises CheckpointError when they do not fit the model."""
    layout = LearnerLayout(
        tp=tp,
        pp=pp,
        ep=ep,
        dp=ep // math.gcd(tp, ep),
        sequence_parallel=tp > 1 and model.experts is not None,
    )
    # The rules look at the model and the layout only; no other section is made up.
    options = RunOptions.model_construct(model=model, layout=LayoutOptions(learner=layout))
    found = [finding for rule in _RULES for finding in rule(options)]
    if found:
        raise CheckpointError("; ".join(_words(finding, options) for finding in found))
    return layout


def _words(finding: Finding, options: RunOptions) -> str:
    cites = [f"{dotted(key)} = {_value(options, key)}" for key in finding.cites]
    need = finding.need.format(*cites)
    return f"--{finding.key[-1]} {_value(options, finding.key)}: need {need}; {finding.fix}"


def _value(options: RunOptions, key: tuple[str, ...]) -> object:
    return reduce(getattr, key, options)
