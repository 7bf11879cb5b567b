"""Colours of lines and words, seen with the common kinds of colour blindness, in both themes."""

import re
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import e3mega.report
from e3mega.report.canvas import SERIES

# Machado, Oliveira and Fernandes (2009), full severity, for linear sRGB.
SEEN = {
    "normal": ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)),
    "protanopia": (
        (0.152286, 1.052583, -0.204868),
        (0.114503, 0.786281, 0.099216),
        (-0.003882, -0.048116, 1.051998),
    ),
    "deuteranopia": (
        (0.367322, 0.860646, -0.227968),
        (0.280085, 0.672501, 0.047413),
        (-0.011820, 0.042940, 0.968881),
    ),
    "tritanopia": (
        (1.255528, -0.076749, -0.178779),
        (-0.078411, 0.930809, 0.147602),
        (0.004733, 0.691367, 0.303900),
    ),
}
XYZ = np.array(((0.4124, 0.3576, 0.1805), (0.2126, 0.7152, 0.0722), (0.0193, 0.1192, 0.9505)))
WHITE = np.array((0.9505, 1.0, 1.089))


def themes() -> list[dict[str, str]]:
    """The style sheet's colours by variable, light and dark."""
    text = (Path(e3mega.report.__file__).parent / "page.css").read_text()
    roots = re.findall(r":root \{(.*?)\}", text, re.DOTALL)[:2]
    return [dict(re.findall(r"--(\w+): (#\w{6});", root)) for root in roots]


def linear(colour: str) -> NDArray[np.float64]:
    values = np.array([int(colour[at : at + 2], 16) for at in (1, 3, 5)]) / 255
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def lab(rgb: NDArray[np.float64]) -> NDArray[np.float64]:
    x, y, z = np.cbrt(XYZ @ np.clip(rgb, 0.0, 1.0) / WHITE)
    return np.array((116 * y - 16, 500 * (x - y), 200 * (y - z)))


def contrast(first: str, second: str) -> float:
    """Of WCAG 2."""
    low, high = sorted(float(XYZ[1] @ linear(each)) for each in (first, second))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", themes(), ids=["light", "dark"])
@pytest.mark.parametrize("kind", SEEN)
def test_no_two_lines_look_alike(theme: dict[str, str], kind: str) -> None:
    """A difference of 2.3 in this space is just noticed side by side."""
    colours = [theme[f"s{place}"] for place in range(len(SERIES))]
    seen = [lab(np.array(SEEN[kind]) @ linear(colour)) for colour in colours]
    for (a, first), (b, second) in combinations(enumerate(seen), 2):
        assert np.linalg.norm(first - second) > 10, (colours[a], colours[b])


@pytest.mark.parametrize("theme", themes(), ids=["light", "dark"])
def test_words_and_lines_stand_out_from_the_paper(theme: dict[str, str]) -> None:
    for name in ("ink", "quiet", "good", "bad", "cut"):
        assert contrast(theme[name], theme["paper"]) >= 4.5, name
    for place in range(len(SERIES)):
        assert contrast(theme[f"s{place}"], theme["paper"]) >= 3.0, place


def test_what_is_drawn_is_what_the_style_sheet_names() -> None:
    assert [themes()[0][f"s{place}"] for place in range(len(SERIES))] == list(SERIES)
