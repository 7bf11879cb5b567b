"""Stops at a loss, a gradient or weights that are not finite, and names those at fault."""

import math
from collections.abc import Callable

import torch
import torch.distributed as dist

from e3mega.errors import JobError
from e3mega.mcore.build import LearnerModel
from e3mega.rollout.batch import PackedBatch

_MAX_NAMES = 3


def check_loss(loss: float, batch: PackedBatch) -> None:
    """Raise JobError when the loss, the same on every rank, is not finite."""
    if not math.isfinite(loss):
        raise _error(f"the loss is {loss}", batch)


def check_gradient(learner: LearnerModel, norm: float, batch: PackedBatch) -> None:
    """Raise JobError, with the parameters' names, when the norm of the gradient is not finite.

    All ranks call it with the same norm, so that all look for names or none does. Gradients are
    looked at only then: the norm has been computed anyway.
    """
    if math.isfinite(norm):
        return
    # Clipping by an infinite norm leaves 0 or NaN, so they are still seen after the step.
    found = _names(learner, _gradient)
    blame = f"the gradient of {found} is not finite" if found else "no parameter shows why"
    raise _error(f"the norm of the gradient is {norm}: {blame}", batch)


def check_weights(learner: LearnerModel, refusal: str) -> None:
    """Raise JobError, with ``refusal`` and the parameters' names, when weights are not finite.

    All ranks call it, before weights leave the learner: a run would go on from a checkpoint of
    such weights and from no earlier one, and a server would be blamed for what it answers.
    """
    found = _names(learner, torch.Tensor.detach)
    if found:
        raise JobError(
            f"learner: {refusal}, for {found} is not finite; the newest checkpoint is from "
            "before; a lower optimizer.learning_rate may help"
        )


def _names(learner: LearnerModel, values: Callable[[torch.nn.Parameter], torch.Tensor]) -> str:
    """The parameters of all ranks whose values are not finite, in words; empty when all are."""
    # A tied embedding's copy in the last stage goes by the name of what it copies.
    copied = {weight.copy_name: weight.name for weight, _ in learner.copies()}
    own = [
        copied.get(name, name)
        for name, parameter in learner.named_parameters().items()
        if not bool(torch.isfinite(values(parameter)).all())
    ]
    names: list[list[str]] = [[] for _ in range(learner.grid.process.world_size)]
    dist.all_gather_object(names, own, group=learner.grid.control)
    found = list(dict.fromkeys(name for rank in names for name in rank))
    more = f" and {len(found) - _MAX_NAMES} more" if len(found) > _MAX_NAMES else ""
    return ", ".join(found[:_MAX_NAMES]) + more


def _gradient(parameter: torch.nn.Parameter) -> torch.Tensor:
    """Megatron's accumulated gradient of a parameter."""
    gradient = getattr(parameter, "main_grad", None)
    assert isinstance(gradient, torch.Tensor), "DistributedDataParallel keeps main_grad"
    return gradient


def _error(what: str, batch: PackedBatch) -> JobError:
    return JobError(
        f"learner: stage {batch.stage}, step {batch.step}: {what}; "
        "a lower optimizer.learning_rate or optimizer.clip_grad_norm may help"
    )
