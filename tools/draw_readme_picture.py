"""Draws a run's accuracy against test budget: `python tools/draw_readme_picture.py RUN OUT.png`."""

import argparse
from pathlib import Path

from e3mega.report.picture import write_readme_picture

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run_dir", type=Path)
    parser.add_argument("out_png", type=Path)
    options = parser.parse_args()
    print(write_readme_picture(options.run_dir, options.out_png))
