"""Fig. 7 of the e3 paper (arXiv 2506.09026) as points: update, value."""

NEGATIVE: dict[str, tuple[tuple[int, float], ...]] = {
    "reward": ((0, 0.0), (2700, 0.0), (2800, 0.06), (2900, 0.61), (3000, 0.92), (3200, 0.99)),
    "length": ((0, 13.5), (2600, 50.0), (3700, 5.0)),
    "stop": (
        *((0, 0.079), (500, 0.050), (1000, 0.033), (2000, 0.019)),
        *((2700, 0.013), (3000, 0.005), (3700, 0.0)),
    ),
    "right": ((0, 0.0), (2700, 0.0), (4400, 0.21)),
    "entropy": ((0, 4.42), (1000, 4.59), (2500, 4.48), (2740, 4.39)),
}
"""With negative gradients."""

MASKED: dict[str, tuple[tuple[int, float], ...]] = {
    "reward": ((0, 0.0), (4400, 0.0)),
    "length": ((0, 13.5), (4400, 13.5)),
    "stop": ((0, 0.077), (4400, 0.077)),
    "right": ((0, 0.0), (4400, 0.0)),
    "entropy": ((0, 4.411), (4400, 4.411)),
}
"""Without them; the figure's length wanders between 12 and 17."""
