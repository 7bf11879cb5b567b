"""The paper's own points (arXiv 2506.09026), read off its figures, for the faint layer."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ReferenceLine:
    """One line of a figure of the paper; fractions, tokens, nats or counts as the panel has them.

    Example: ``ReferenceLine("GRPO", (0, 15), (.063, .342))``.
    """

    label: str
    x: tuple[float, ...]
    y: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Asymmetry:
    """Lines of one base in Fig. 4. Example: ``TRIED``."""

    accuracy: tuple[ReferenceLine, ...]
    """At the training budget, by iteration."""
    length: tuple[ReferenceLine, ...]
    """Tokens of a completion, by iteration."""
    beyond: tuple[ReferenceLine, ...]
    """Accuracy of the end, by test budget."""


def _percent(label: str, x: tuple[float, ...], *values: float) -> ReferenceLine:
    return ReferenceLine(label, x, tuple(value / 100 for value in values))


_AIME = (4096.0, 8192.0, 16384.0, 24576.0, 32768.0)
_HMMT = _AIME[1:]
_ITERATIONS = tuple(float(step) for step in range(100, 401, 50))
_CDOWN = tuple(float(step) for step in range(0, 91, 15))
_TWO_TO_16K = (2048.0, 4096.0, 8192.0, 16384.0)
_TWO_TO_5K = (2048.0, 3072.0, 4096.0, 5120.0)
_TESTED = (2048.0, 4096.0, 8192.0, 16384.0, 24576.0, 28672.0, 32768.0)

AIME_2025 = (
    _percent("e3-1.7B", _AIME, 9.18, 24.05, 38.39, 43.09, 43.79),
    _percent("Qwen3-1.7B", _AIME, 2.98, 20.06, 31.15, 34.55, 35.54),
)
HMMT_2025 = (
    _percent("e3-1.7B", _HMMT, 11.65, 22.41, 24.64, 24.77),
    _percent("Qwen3-1.7B", _HMMT, 4.89, 18.34, 20.96, 22.17),
)
_FOUR = (4096.0, 8192.0, 16384.0, 32768.0)
OPEN_MODELS = (
    ReferenceLine("R1-Distill-1.5B", _FOUR, (0.129, 0.196, 0.227, 0.231)),
    ReferenceLine("OpenThinker-7B", _FOUR, (0.129, 0.200, 0.229, 0.244)),
    ReferenceLine("DeepScaleR", _FOUR, (0.177, 0.244, 0.271, 0.271)),
    ReferenceLine("STILL-3", _FOUR, (0.160, 0.215, 0.248, 0.250)),
    ReferenceLine("II-Thought", _FOUR, (0.190, 0.229, 0.235, 0.235)),
    ReferenceLine("Open-RS1", _FOUR, (0.146, 0.192, 0.225, 0.227)),
)
"""Fig. 2 and 11: open models on AIME'25, none of which gains much beyond 16k."""
WAITS = (
    ReferenceLine(
        "Qwen3-1.7B",
        (12963, 14955, 16226, 17082, 17586),
        (0.3362, 0.3453, 0.349, 0.3495, 0.3518),
    ),
)
ATTEMPTS, KS = (2, 4, 8, 16), (1, 2, 4, 8, 16)
PASS_BY_ATTEMPTS = (
    (0.01, 0.02, 0.03, 0.05, 0.07),
    (0.02, 0.03, 0.05, 0.08, 0.11),
    (0.04, 0.07, 0.12, 0.17, 0.22),
    (0.06, 0.10, 0.16, 0.23, 0.28),
)
"""Fig. 3: pass@k of Countdown's base, a row a number of chained attempts."""
TRIED = Asymmetry(
    accuracy=(
        ReferenceLine("budget 512", _ITERATIONS, (0.28, 0.37, 0.41, 0.44, 0.44, 0.43, 0.45)),
        ReferenceLine("budget 1024", _ITERATIONS, (0.31, 0.40, 0.47, 0.49, 0.50, 0.51, 0.50)),
        ReferenceLine("budget 2048", _ITERATIONS, (0.32, 0.38, 0.47, 0.53, 0.56, 0.58, 0.59)),
    ),
    length=(
        ReferenceLine("budget 512", _ITERATIONS, (139, 272, 347, 498, 469, 489, 495)),
        ReferenceLine("budget 1024", _ITERATIONS, (142, 475, 873, 947, 965, 995, 973)),
        ReferenceLine("budget 2048", _ITERATIONS, (190, 606, 1317, 1908, 1784, 1947, 1972)),
    ),
    beyond=(
        ReferenceLine("budget 512", _TWO_TO_16K, (0.50, 0.54, 0.58, 0.61)),
        ReferenceLine("budget 1024", _TWO_TO_16K, (0.59, 0.65, 0.69, 0.72)),
    ),
)
"""Fig. 4, Countdown."""
MULTIPLIED = Asymmetry(
    accuracy=(
        ReferenceLine("budget 1024", _ITERATIONS, (0.24, 0.29, 0.36, 0.40, 0.43, 0.44, 0.46)),
        ReferenceLine("budget 2048", _ITERATIONS, (0.27, 0.32, 0.39, 0.44, 0.49, 0.50, 0.50)),
        ReferenceLine("budget 4096", _ITERATIONS, (0.26, 0.30, 0.40, 0.43, 0.48, 0.48, 0.49)),
    ),
    length=(
        ReferenceLine("budget 1024", _ITERATIONS, (500, 412, 386, 836, 513, 609, 578)),
        ReferenceLine("budget 2048", _ITERATIONS, (673, 1492, 1203, 1190, 1746, 1176, 1300)),
        ReferenceLine("budget 4096", _ITERATIONS, (695, 1227, 2336, 2859, 2463, 2304, 2484)),
    ),
    beyond=(
        ReferenceLine("budget 2048", _TWO_TO_5K, (0.528, 0.544, 0.545, 0.550)),
        ReferenceLine("budget 4096", _TWO_TO_5K, (0.531, 0.543, 0.548, 0.549)),
    ),
)
"""Fig. 4, Multiplication: its base does not verify."""
MULTIPLIED_WITH_CHECKS = Asymmetry(
    accuracy=(),
    length=(
        ReferenceLine("budget 1024", _ITERATIONS, (584, 673, 961, 944, 877, 912, 900)),
        ReferenceLine("budget 2048", _ITERATIONS, (882, 1552, 1663, 1897, 1811, 1954, 1768)),
        ReferenceLine("budget 4096", _ITERATIONS, (1313, 2463, 3433, 3234, 3144, 3586, 3460)),
    ),
    beyond=(
        ReferenceLine("budget 1024", _TWO_TO_16K, (0.534, 0.588, 0.605, 0.613)),
        ReferenceLine("budget 2048", _TWO_TO_16K, (0.558, 0.603, 0.640, 0.663)),
        ReferenceLine("budget 4096", _TWO_TO_16K, (0.572, 0.645, 0.697, 0.725)),
    ),
)
"""Fig. 4, Multiplication after supervised traces that verify."""
SIGN_ACCURACY = (
    ReferenceLine("GRPO", _CDOWN, (0.063, 0.342, 0.534, 0.643, 0.690, 0.702, 0.722)),
    ReferenceLine("masked", _CDOWN, (0.063, 0.269, 0.368, 0.427, 0.440, 0.462, 0.507)),
)
SIGN_ACCURACY_BEYOND = (
    ReferenceLine("GRPO, 2x", _CDOWN, (0.069, 0.368, 0.579, 0.670, 0.728, 0.748, 0.763)),
    ReferenceLine("masked, 2x", _CDOWN, (0.069, 0.288, 0.385, 0.454, 0.463, 0.484, 0.532)),
)
SIGN_ATTEMPTS = (
    ReferenceLine("GRPO, incorrect", _CDOWN, (12.7, 31.9, 39.1, 43.5, 46.4, 48.2, 49.9)),
    ReferenceLine("GRPO, correct", _CDOWN, (9.4, 14.7, 16.1, 15.3, 16.2, 16.3, 16.2)),
    ReferenceLine("masked, incorrect", _CDOWN, (12.7, 29.0, 34.6, 35.6, 36.1, 35.7, 36.0)),
    ReferenceLine("masked, correct", _CDOWN, (9.4, 10.2, 11.0, 11.5, 12.1, 12.2, 12.0)),
)
SIGN_LENGTH = (
    ReferenceLine("GRPO, incorrect", _CDOWN, (580, 1456, 1748, 1858, 1902, 1944, 1999)),
    ReferenceLine("GRPO, correct", _CDOWN, (433, 672, 722, 664, 683, 681, 688)),
    ReferenceLine("masked, incorrect", _CDOWN, (580, 1347, 1600, 1694, 1699, 1693, 1720)),
    ReferenceLine("masked, correct", _CDOWN, (433, 482, 531, 568, 588, 600, 591)),
)
SIGN_ENTROPY = (
    ReferenceLine("GRPO", (1, 10, 30, 90), (0.165, 0.13, 0.115, 0.115)),
    ReferenceLine("masked", (1, 6, 25, 50, 90), (0.125, 0.12, 0.044, 0.021, 0.012)),
)
UNIQUE_ATTEMPTS = (
    ReferenceLine(
        "GRPO",
        tuple(230.0 + 104 * place for place in range(9)),
        (0.046, 0.11, 0.174, 0.303, 0.183, 0.11, 0.037, 0.028, 0.009),
    ),
    ReferenceLine(
        "masked",
        tuple(92.0 + 107 * place for place in range(7)),
        (0.163, 0.378, 0.306, 0.12, 0.029, 0.005, 0.0),
    ),
)
FIXED_BUDGETS = (
    _percent("trained at 4k", _TESTED, 6.7, 21.7, 26.7, 27.8, 27.8, 27.8, 27.8),
    _percent("trained at 8k", _TESTED, 0.0, 13.33, 23.33, 30.62, 38.12, 38.33, 39.12),
    _percent("trained at 16k", _TESTED, 0.0, 10.0, 16.67, 27.29, 31.67, 32.03, 32.29),
)
CURRICULA = (
    _percent("budget only", _AIME, 4.5, 15.9, 23.3, 24.7, 25.2),
    _percent("data only", _AIME, 2.1, 10.7, 20.5, 23.1, 25.1),
    _percent("e3", _AIME, 3.8, 13.2, 24.8, 28.6, 29.3),
)
KL = (
    ReferenceLine("budget 512", _ITERATIONS, (0.49, 0.54, 0.57, 0.59, 0.61, 0.62, 0.63)),
    ReferenceLine("budget 1024", _ITERATIONS, (0.29, 0.34, 0.38, 0.41, 0.44, 0.45, 0.47)),
    ReferenceLine("budget 2048", _ITERATIONS, (0.19, 0.22, 0.25, 0.27, 0.29, 0.32, 0.34)),
)
_PLACES = tuple(float(place) for place in range(2, 11))
NEW_CONTEXT = (
    ReferenceLine(
        "iteration 0", _PLACES, (0.009, -0.012, 0.038, 0.01, -0.012, -0.015, 0.02, -0.03, -0.04)
    ),
    ReferenceLine(
        "iteration 400",
        _PLACES,
        (0.052, 0.085, 0.099, 0.082, 0.122, 0.099, 0.134, 0.128, 0.151),
    ),
)
PROGRESS = (
    ReferenceLine(
        "iteration 0", _PLACES, (0.008, -0.005, 0.003, 0.01, -0.03, 0.005, 0.009, 0.011, 0.014)
    ),
    ReferenceLine(
        "iteration 400",
        _PLACES,
        (0.002, -0.004, 0.006, 0.045, 0.051, 0.039, 0.064, 0.058, 0.051),
    ),
)
VERIFICATIONS = (
    ReferenceLine("Mult-V, GRPO", _ITERATIONS, (4.1, 9.4, 13.5, 15.2, 14.1, 13.8, 14.7)),
    ReferenceLine("Mult-V, masked", _ITERATIONS, (3.8, 3.4, 4.2, 4.8, 3.9, 3.7, 4.3)),
    ReferenceLine("Mult, GRPO", _ITERATIONS, (1.1, 1.7, 2.2, 1.3, 2.1, 1.8, 1.7)),
    ReferenceLine("Mult, masked", _ITERATIONS, (2.2, 1.1, 1.7, 1.6, 1.9, 1.4, 1.2)),
)
VERIFIED_ACCURACY = (
    ReferenceLine("Mult-V, GRPO", _ITERATIONS, (0.34, 0.46, 0.49, 0.57, 0.60, 0.65, 0.64)),
    ReferenceLine("Mult-V, masked", _ITERATIONS, (0.35, 0.43, 0.46, 0.49, 0.50, 0.51, 0.50)),
    ReferenceLine("Mult, GRPO", _ITERATIONS, (0.26, 0.30, 0.40, 0.46, 0.48, 0.53, 0.52)),
    ReferenceLine("Mult, masked", _ITERATIONS, (0.27, 0.33, 0.39, 0.43, 0.45, 0.46, 0.45)),
)
STAGE_ACCURACY = (
    ReferenceLine(
        "8k, easy",
        tuple(float(step) for step in range(0, 251, 25)),
        (0.400, 0.433, 0.498, 0.486, 0.507, 0.535, 0.532, 0.526, 0.529, 0.547, 0.537),
    ),
    ReferenceLine(
        "16k, medium and hard",
        tuple(float(step) for step in range(250, 551, 25)),
        (
            *(0.649, 0.684, 0.662, 0.701, 0.697, 0.689, 0.712),
            *(0.720, 0.723, 0.747, 0.747, 0.712, 0.725),
        ),
    ),
)
"""Fig. 9b."""
HARD_REWARD = (
    ReferenceLine("coupled", (60, 72, 84, 96, 108, 120), (0.0, 0.006, 0.132, 0.222, 0.323, 0.422)),
    ReferenceLine("data only", (60, 120), (0.0, 0.002)),
)
EQUATIONS = (
    ReferenceLine(
        "coupled",
        tuple(float(step) for step in range(0, 121, 15)),
        (1.53, 2.27, 2.36, 2.15, 2.63, 2.69, 2.93, 3.28, 3.69),
    ),
    ReferenceLine(
        "data only",
        tuple(float(step) for step in range(0, 121, 15)),
        (2.68, 2.69, 2.59, 2.54, 2.61, 2.60, 2.61, 2.65, 2.64),
    ),
)
TABLE_1 = (
    _percent("Qwen3-1.7B, AIME'25", (1, 2, 4, 8, 16, 32), 35.5, 41.4, 47.0, 52.4, 58.3, 65.2),
    _percent("e3-1.7B, AIME'25", (1, 2, 4, 8, 16, 32), 43.8, 51.1, 56.7, 60.8, 64.0, 67.2),
    _percent("Qwen3-1.7B, HMMT'25", (1, 2, 4, 8, 16, 32), 22.2, 27.3, 33.0, 39.5, 46.7, 54.9),
    _percent("e3-1.7B, HMMT'25", (1, 2, 4, 8, 16, 32), 24.7, 30.4, 37.0, 44.1, 50.8, 56.1),
)
