"""The order of includes never changes a fingerprint, whatever graph of fragments they make."""

import random
import shutil
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from e3mega.errors import SpecError
from e3mega.spec.fingerprint import run_fingerprint, stage_fingerprints
from e3mega.spec.resolve import resolve_spec
from tests.spec_cases import STILL, write_library

NUM_FILES = 6
MOUNTS = (".", ".", "curriculum.stages.warmup", "curriculum.stages.easy", "curriculum.stages.hard")
VALUES = {
    "loss.sign.negative.weight": ("0.5", "1.0", "null"),
    "loss.entropy.coefficient": ("0.01", "0.02"),
    "optimizer.weight_decay": ("0.0", "1e-2"),
    "rollout.packed_tokens": ("4k", "4096"),
    "generation.temperature": ("0.9", "1.0", "1"),
}
"""Keys that neither the run nor its fragments set, and that stand in a stage as at the root."""

body = st.dictionaries(st.sampled_from(sorted(VALUES)), st.integers(0, 2), min_size=1, max_size=2)


@st.composite
def an_edge(draw: st.DrawFn) -> tuple[int, int, str]:
    """Includer, included and mount; numbers ascend, so there is no cycle."""
    at = draw(st.sampled_from([0, 0, 0, 1, 2, 3, 4]))
    return at, draw(st.integers(at + 1, NUM_FILES - 1)), draw(st.sampled_from(MOUNTS))


def text_of(
    number: int, values: dict[str, int], edges: list[tuple[int, str]], rng: random.Random
) -> str:
    """One file; its includes, its mounts and its keys stand in an order of the generator's."""
    # Only what hangs from the run itself is mounted in stages: a mount in a mount has no place.
    mounts: dict[str, list[str]] = {".": ["runs/quickstart"]} if number == 0 else {}
    for target, mount in edges:
        mounts.setdefault(mount if number == 0 else ".", []).append(f"part/f{target}")
    places = [f"  {place}: [{', '.join(rng.sample(n, len(n)))}]" for place, n in mounts.items()]
    sections: dict[str, list[str]] = {}
    for key in rng.sample(sorted(values), len(values)):
        choices = VALUES[key]
        section, *inner = key.split(".")
        value = choices[values[key] % len(choices)]
        for part in reversed(inner):
            value = f"{{{part}: {value}}}"
        sections.setdefault(section, []).append(value[1:-1])
    lines = [f"{name}: {{{', '.join(parts)}}}" for name, parts in sections.items()]
    includes = ["include:", *rng.sample(places, len(places))] if places else []
    blocks = [lines, includes]
    rng.shuffle(blocks)
    return "\n".join([f"# {rng.random()}", *(line for block in blocks for line in block)]) + "\n"


def outcome(
    bodies: list[dict[str, int]], edges: list[tuple[int, int, str]], rng: random.Random
) -> tuple[str, ...] | frozenset[str]:
    """The fingerprints of the run and of its stages, or the keys of its problems."""
    shuffled = rng.sample(edges, len(edges))
    files = {}
    for number, values in enumerate(bodies):
        mine = [(to, mount) for at, to, mount in shuffled if at == number]
        name = "runs/a" if number == 0 else f"part/f{number}"
        files[name] = text_of(number, values, mine, rng)
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(STILL, Path(folder) / "specs")
        library = write_library(Path(folder), files)
        try:
            options = resolve_spec(library / "runs" / "a.yaml", library=library).options
        except SpecError as error:
            return frozenset(problem.key for problem in error.problems)
        return run_fingerprint(options), *stage_fingerprints(options)


def test_shuffled_graphs_of_fragments_have_the_same_fingerprints() -> None:
    seen: list[tuple[str, ...]] = []
    conflicts: list[frozenset[str]] = []

    @settings(max_examples=40, derandomize=True, database=None)
    @given(
        bodies=st.lists(body, min_size=NUM_FILES, max_size=NUM_FILES),
        edges=st.lists(an_edge(), min_size=3, max_size=9),
        order=st.integers(0, 2**32),
    )
    def hold(bodies: list[dict[str, int]], edges: list[tuple[int, int, str]], order: int) -> None:
        one = outcome(bodies, edges, random.Random(0))
        other = outcome(bodies, edges, random.Random(order))
        assert one == other
        if isinstance(one, tuple):
            seen.append(one)
        else:
            conflicts.append(one)

    hold()
    assert len(set(seen)) >= 10, "graphs that differ have fingerprints that differ"
    assert len({prints[1] for prints in seen}) > 1, "some reach the warm-up by a mount"
    assert conflicts, "some fragments disagree"
