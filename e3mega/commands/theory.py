"""``e3mega theory``: the paper's small models, checked by numbers in seconds on a CPU."""

import argparse
from pathlib import Path

HELP = "check the paper's small models of exploration by numbers"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command is told."""
    parser.add_argument("--output", type=Path, default=Path("theory.png"), help="the picture")
    parser.add_argument("--seed", type=int, default=1, help="of every random choice")


def run(options: argparse.Namespace) -> int:
    """Run the command; its exit status."""
    from e3mega.theory.bigram import BigramSettings, simulate
    from e3mega.theory.entropy_theorem import check
    from e3mega.theory.figure import draw
    from e3mega.theory.words import bigram_lines, guessing_lines, theorem_lines

    negative, masked = (
        simulate(BigramSettings(has_negative_gradients=has, seed=options.seed))
        for has in (True, False)
    )
    sizes = (5, 10, 20, 50, 100, 200)
    checks = tuple(check(size, num_distributions=4000, seed=options.seed) for size in sizes)
    for lines in (
        guessing_lines(options.seed),
        bigram_lines(negative, masked),
        theorem_lines(checks),
    ):
        print(*lines, sep="\n")
    draw(options.output, negative, masked, checks)
    print(f"{options.output}: Fig. 7 beside these curves")
    return 0
