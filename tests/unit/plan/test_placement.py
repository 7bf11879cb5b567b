"""Jobs on the nodes and GPUs that were meant for them."""

import pytest

from e3mega.device import visible_devices
from e3mega.errors import SpecError
from e3mega.plan.compile import compile_plan
from e3mega.plan.placement import NodeGroup, place
from e3mega.plan.planfile import Plan, Role
from e3mega.spec.resolve import find_spec, resolve_spec


def planned(*sets: str) -> Plan:
    return compile_plan(resolve_spec(find_spec("quickstart-small"), sets=sets).options)


GPUS = ("layout.learner.device=gpu", "layout.generation.device=gpu", "cluster.gpus_per_node=8")


def test_one_machine_is_the_default() -> None:
    plan = planned()
    assert plan.num_nodes == 1
    assert {job.node for job in plan.jobs} == {0}


def test_learner_servers_and_loop_have_their_own_nodes() -> None:
    plan = planned(
        *GPUS,
        "layout.learner.tp=2",
        "layout.learner.dp=8",
        "layout.generation.num_replicas=4",
        "layout.generation.tp=4",
        "cluster.learner_nodes=2",
        "cluster.generation_nodes=2",
        "cluster.has_loop_node=true",
    )
    nodes = {job.name: job.node for job in plan.jobs}
    assert nodes == {
        "loop": 0,
        "learner": 1,
        "learner_1": 2,
        **{"generation_0": 3, "generation_1": 4, "generation_2": 3, "generation_3": 4},
    }
    devices = {job.name: job.devices for job in plan.jobs}
    assert devices["learner"] == devices["learner_1"] == tuple(range(8))
    assert devices["generation_0"] == (0, 1, 2, 3) and devices["generation_2"] == (4, 5, 6, 7)
    assert place(plan.cluster, plan.layout).groups == (
        NodeGroup("loop", 0, 1, 0),
        NodeGroup("learner", 1, 2, 8),
        NodeGroup("generation", 3, 2, 8),
    )


def test_a_shared_node_is_split_by_device() -> None:
    plan = planned(*GPUS, "layout.learner.dp=2", "layout.generation.num_replicas=4")
    devices = {job.name: job.devices for job in plan.jobs if job.role is not Role.LOOP}
    assert devices == {"learner": (0, 1, 2, 3)} | {f"generation_{r}": (4 + r,) for r in range(4)}


def test_the_parts_of_a_learner_meet_at_an_address() -> None:
    plan = planned("cluster.learner_nodes=2")
    first, second = [job.argv for job in plan.jobs if job.role is Role.LEARNER]
    assert {"--nnodes=2", "--node-rank=0", "--master-port={learner_port}"} <= set(first)
    assert {"--nnodes=2", "--node-rank=1", "--master-addr={learner_host}"} <= set(second)


@pytest.mark.parametrize(
    ("sets", "words"),
    [
        (("cluster.learner_nodes=3",), "a divisor of the learner's 2 ranks"),
        (
            ("cluster.learner_nodes=2", "curriculum.stages.hard.layout.learner.tp=1"),
            "a divisor of the learner's 1 ranks .* in stage hard",
        ),
        (("cluster.generation_nodes=2",), "at most layout.generation.num_replicas = 1"),
        ((*GPUS, "layout.learner.dp=4", "layout.generation.tp=2"), "at least 10: 8 for the"),
    ],
)
def test_nodes_that_cannot_hold_the_jobs_are_refused(sets: tuple[str, ...], words: str) -> None:
    with pytest.raises(SpecError, match=words):
        planned(*sets)


def test_gpus_are_taken_from_those_that_a_scheduler_shows() -> None:
    assert visible_devices({}, ()) == {}
    assert list(visible_devices({}, (2, 3)).values()) == ["2,3"]
    (name,) = visible_devices({}, (0,))
    assert visible_devices({name: "4,6,7"}, (1, 2)) == {name: "6,7"}
