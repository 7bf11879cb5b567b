"""Seeds of groups do not meet."""

from e3mega.rollout.records import Purpose
from e3mega.rollout.seeds import group_seed


def seeds_of_round(round: int, purpose: Purpose, num_samples: int = 8) -> list[int]:
    return [
        group_seed(
            run_seed=1,
            stage_index=2,
            purpose=purpose,
            round=round,
            prompt_index=index,
            num_samples=num_samples,
        )
        + sample
        for index in range(512)
        for sample in range(num_samples)
    ]


def test_no_two_samples_of_a_round_share_the_bits_that_torch_reads() -> None:
    for round in range(20):
        seeds = seeds_of_round(round, Purpose.TRAIN)
        assert len({seed % 2**32 for seed in seeds}) == len(seeds)
        assert min(seeds) >= 0 and max(seeds) < 2**63


def test_rounds_and_purposes_have_streams_of_their_own() -> None:
    streams = [set(seeds_of_round(r, p)) for r in range(20) for p in Purpose]
    assert len(set().union(*streams)) == sum(len(stream) for stream in streams)


def test_a_seed_depends_on_every_part_of_its_place() -> None:
    def seed(**changes: int) -> int:
        place = {"run_seed": 1, "stage_index": 0, "round": 0, "prompt_index": 0, "num_samples": 8}
        return group_seed(purpose=Purpose.TRAIN, **{**place, **changes})

    changed = [seed(run_seed=2), seed(stage_index=1), seed(round=1), seed(prompt_index=1)]
    assert len({seed(), *changed}) == 5
    assert seed() == seed()
