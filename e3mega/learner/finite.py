"""Stops a step whose loss or gradient is not finite, and names the parameters at fault."""

import math

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
    names: list[list[str]] = [[] for _ in range(learner.grid.process.world_size)]
    dist.all_gather_object(names, _own_names(learner), group=learner.grid.control)
    found = list(dict.fromkeys(name for rank in names for name in rank))
    shown = ", ".join(found[:_MAX_NAMES])
    more = f" and {len(found) - _MAX_NAMES} more" if len(found) > _MAX_NAMES else ""
    blame = f"the gradient of {shown}{more} is not finite" if found else "no parameter shows why"
    raise _error(f"the norm of the gradient is {norm}: {blame}", batch)


def _own_names(learner: LearnerModel) -> list[str]:
    """Whole-model names of this rank's parameters whose gradient is not finite.

    Clipping by an infinite norm leaves 0 or NaN, so they are still seen after the step.
    """
    # A tied embedding's copy in the last stage goes by the name of what it copies.
    copied = {weight.copy_name: weight.name for weight, _ in learner.copies()}
    return [
        copied.get(name, name)
        for name, parameter in learner.named_parameters().items()
        if not bool(torch.isfinite(_gradient(parameter)).all())
    ]


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
