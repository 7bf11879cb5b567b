"""Seeds of groups, derived from where they stand in the run."""

import hashlib

from e3mega.rollout.records import Purpose

_LARGEST_BASE = 2**62


def group_seed(
    *,
    run_seed: int,
    stage_index: int,
    purpose: Purpose,
    round: int,
    prompt_index: int,
    num_samples: int,
) -> int:
    """The seed of sample 0 of a group; sample k uses this plus k, as vLLM derives it.

    Seeds of one round run on without a gap from a hashed base: groups are ``num_samples`` apart
    and no two samples of a round share one. torch's CPU generator reads only the low 32 bits of a
    seed (two seeds 2**32 apart give the same stream), so those bits are hashed between rounds and
    distinct within one. The result is below 2**63, the largest that vLLM takes.
    """
    place = f"{run_seed}/{stage_index}/{purpose.value}/{round}"
    digest = hashlib.sha256(place.encode()).digest()
    base = int.from_bytes(digest[:8], "big") % _LARGEST_BASE
    return base + prompt_index * num_samples
