"""One picture of a run for a README: accuracy against test budget as a PNG file."""

# matplotlib's drawing functions take **kwargs that its stubs leave untyped.
# pyright: reportUnknownMemberType=false

import io
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from e3mega.errors import RecordError
from e3mega.report.accuracy import draw_accuracy_axes, share_height, slice_title, slices_of
from e3mega.report.canvas import legend_above, report_style
from e3mega.report.runs import cohorts_of, read_run
from e3mega.rollout.whole_file import write_whole


def write_readme_picture(run_dir: Path, out_png: Path) -> Path:
    """Write the panels of accuracy against test budget side by side on white; the path.

    Raises RecordError when the run holds no evaluation.
    """
    cohorts = cohorts_of([read_run(run_dir)])
    slices = slices_of(cohorts)
    if not slices:
        raise RecordError(f"picture: {run_dir} holds no evaluation; give a run that was evaluated")
    with report_style():
        figure = Figure(figsize=(3.9 * len(slices), 3.3), facecolor="white")
        FigureCanvasAgg(figure)
        panels = list(figure.subplots(1, len(slices), sharey=True, squeeze=False)[0])
        for axes, slice_name in zip(panels, slices, strict=True):
            draw_accuracy_axes(axes, cohorts, slice_name)
            axes.set_xlabel("test budget, tokens (named: trained there)")
            axes.set_title(slice_title(slice_name), fontsize=11, loc="left", pad=20)
            legend_above(axes, columns=3)
        panels[0].set_ylabel("accuracy")
        share_height(panels)
        # The page's panels are placed by hand; here matplotlib may arrange them.
        figure.subplots_adjust(left=0.055, right=0.99, bottom=0.2, top=0.8, wspace=0.08)
        for place, axes in enumerate(panels):
            axes.set_subplotspec(figure.add_gridspec(1, len(slices))[0, place])
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=150, metadata={"Software": None})
    write_whole(out_png, buffer.getvalue())
    return out_png
