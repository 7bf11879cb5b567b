"""The optimizer's state as a checkpoint holds it: the same whether or not a grid divides experts.

Where experts are divided, Megatron-Core gives them a distributed optimizer of their own, chained
to the other parameters'. A file would show that in its names, and another grid could not read it.
"""

from typing import Any

from megatron.core.optimizer import MegatronOptimizer

from e3mega.mcore.moments import distributed_optimizers

METADATA: dict[str, Any] = {
    "distrib_optim_sharding_type": "fully_reshardable",
    # A parameter's moments have one name, whichever optimizer of a chain holds them.
    "chained_optim_avoid_prefix": True,
}
"""What Megatron is told of the format."""


def description(
    optimizer: MegatronOptimizer, model: dict[str, Any], *, is_loading: bool
) -> dict[str, Any]:
    """Megatron's description of the state of the parameters in ``model``, as one optimizer's."""
    found: dict[Any, Any] = optimizer.sharded_state_dict(
        model, is_loading=is_loading, metadata=METADATA
    )
    parts = [found] if len(distributed_optimizers(optimizer)) == 1 else list(found.values())
    groups: dict[float, Any] = {}
    for part in parts:
        for group in part["optimizer"]["param_groups"]:
            groups.setdefault(group["wd_mult"], group)
    return {
        "param_groups": list(groups.values()),
        "param_states": {number: part["param_state"] for number, part in enumerate(parts)},
    }


def load(optimizer: MegatronOptimizer, loaded: dict[str, Any]) -> None:
    """Fill the optimizer from what was loaded by its ``description``."""
    # The learner's groups differ in their decay alone.
    groups = {group["wd_mult"]: group for group in loaded["param_groups"]}
    for number, each in enumerate(distributed_optimizers(optimizer)):
        own = [
            {
                **groups[group["wd_mult"]],
                "is_expert_parallel": group["is_expert_parallel"],
            }
            for group in each.param_groups
        ]
        each.load_state_dict(
            {
                "optimizer": {"param_groups": own},
                "param_state": loaded["param_states"][number],
                "param_state_sharding_type": METADATA["distrib_optim_sharding_type"],
            }
        )
