"""Fragments commute: the order of includes never changes what a spec means."""

import random
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from e3mega.spec.files import LIBRARY
from e3mega.spec.fingerprint import run_fingerprint
from e3mega.spec.resolve import resolve_spec
from tests.spec_cases import composed

KEYS = ["seed", "loss.clip_low", "loss.clip_high", "budget.kind", "budget.tokens", "task"]
MOUNTS = [".", "loss", "curriculum.stages.one", "curriculum.stages.two"]
NUM_FILES = 5

value = st.sampled_from(["1", "1", "2", "null", "1.0"])
file_body = st.dictionaries(st.sampled_from(KEYS), value, min_size=1, max_size=3)


@st.composite
def an_edge(draw: st.DrawFn) -> tuple[int, int, str, bool]:
    """Includer, included, mount, and whether it is a replacement; numbers ascend: no cycles."""
    at = draw(st.sampled_from([0, 0, 1, 2, 3]))
    to = draw(st.integers(at + 1, NUM_FILES - 1))
    return at, to, draw(st.sampled_from([".", ".", *MOUNTS])), draw(st.integers(0, 5)) == 5


def write(body: dict[str, str], edges: list[tuple[int, str, bool]], rng: random.Random) -> str:
    """One file's text, its includes and its keys in an order of their own."""
    lines: list[str] = []
    for word, is_replace in (("include", False), ("replace", True)):
        mounts: dict[str, list[str]] = {}
        for target, mount, replaces in edges:
            if replaces is is_replace:
                place = "loss" if is_replace else mount
                mounts.setdefault(place, []).append(f"part/f{target}")
        if mounts:
            names = list(mounts)
            rng.shuffle(names)
            lines.append(f"{word}:")
            for name in names:
                rng.shuffle(mounts[name])
                lines.append(f"  {name}: [{', '.join(mounts[name])}]")
    sections: dict[str, list[str]] = {}
    for key in rng.sample(list(body), len(body)):
        head, _, tail = key.partition(".")
        sections.setdefault(head, []).append(f"{tail}: {body[key]}" if tail else body[key])
    for head, parts in sections.items():
        is_leaf = head in ("seed", "task")
        lines.append(f"{head}: {parts[0]}" if is_leaf else f"{head}: {{{', '.join(parts)}}}")
    return "\n".join(lines)


@settings(max_examples=60)
@given(
    bodies=st.lists(file_body, min_size=NUM_FILES, max_size=NUM_FILES),
    edges=st.lists(an_edge(), min_size=4, max_size=8),
    order=st.integers(0, 2**32),
)
def test_shuffled_includes_and_keys_give_the_same_tree(
    bodies: list[dict[str, str]], edges: list[tuple[int, int, str, bool]], order: int
) -> None:
    results = []
    for rng in (random.Random(0), random.Random(order)):
        shuffled = rng.sample(edges, len(edges))
        files = {}
        for index, body in enumerate(bodies):
            mine = [(to, mount, rep) for at, to, mount, rep in shuffled if at == index]
            name = "runs/a" if index == 0 else f"part/f{index}"
            files[name] = write(body, mine, rng)
        with tempfile.TemporaryDirectory() as folder:
            composition, problems = composed(Path(folder), files)
        winners = {key: leaf.place.file for key, leaf in composition.leaves.items()}
        results.append((composition.tree, winners, {problem.key for problem in problems}))
    (tree, winners, conflicts), (other_tree, other_winners, other_conflicts) = results
    assert conflicts == other_conflicts
    if not conflicts:
        assert tree == other_tree
        assert winners == other_winners


def test_shuffled_includes_of_the_quickstart_never_change_its_fingerprint(tmp_path: Path) -> None:
    text = (LIBRARY / "runs" / "quickstart.yaml").read_text(encoding="utf-8")
    head, _, rest = text.partition("include:\n")
    lines = rest.splitlines()
    names = [line for line in lines if line.startswith("  - ")]
    others = [line for line in lines if not line.startswith("  - ")]
    expected = run_fingerprint(resolve_spec(LIBRARY / "runs" / "quickstart.yaml").options)
    for seed in range(5):
        shuffled = random.Random(seed).sample(names, len(names))
        path = tmp_path / f"{seed}.yaml"
        path.write_text("\n".join([head, *others, "include:", *shuffled]), encoding="utf-8")
        assert run_fingerprint(resolve_spec(path).options) == expected
