"""The report: one self-contained HTML page from one or several run folders."""

import base64
import hashlib
import re
from collections.abc import Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from urllib.parse import quote

from e3mega.report.beside import beside, beside_html
from e3mega.report.cards import cards_html
from e3mega.report.drawing import Drawing, FigureRow
from e3mega.report.figures import draw_figures
from e3mega.report.headline import headline_html
from e3mega.report.ledger import ledger_html
from e3mega.report.rollouts import read_shown_rollouts
from e3mega.report.runs import Run, cohorts_of, read_run
from e3mega.rollout.whole_file import write_whole
from e3mega.spec.schema.run import LoggingOptions


def write_report(
    run_dirs: list[Path], *, with_paper: bool = False, out: Path | None = None
) -> Path:
    """Write the page of these runs to ``out``, else into the first run's folder; its path.

    Raises RecordError when a folder holds no run. What a run has no data for is left out and
    listed at the end of the page.
    """
    runs = [read_run(run_dir) for run_dir in run_dirs]
    page = runs[0].paths.report if out is None else out
    write_whole(page, page_html(runs, with_paper=with_paper).encode())
    return page


def page_html(runs: Sequence[Run], *, with_paper: bool = False) -> str:
    """The page as text."""
    cohorts = cohorts_of(runs)
    drawn, missing = draw_figures(cohorts, with_paper=with_paper)
    sections = [(row.name, row.title, _figure_html(row, drawing)) for row, drawing in drawn]
    planned = [run for run in runs if not run.is_only_measured]
    if len(planned) > 1:
        sections.insert(0, ("beside", "Runs beside each other", beside_html(beside(planned))))
    absent = [f"{row.title} (needs: {row.needs})" for row in missing]
    for name, title, body, needs in (
        ("rollouts", "Rollouts to read", _rollouts_html(runs), "recorded rollouts"),
        ("ledger", "Ledger", ledger_html(cohorts), "ledger"),
        ("spec", "Resolved spec", _spec_html(runs), "resolved.yaml"),
    ):
        if body:
            sections.append((name, title, body))
        else:
            absent.append(f"{title} (needs: {needs})")
    if absent:
        items = "".join(f"<li>{escape(item)}</li>" for item in absent)
        sections.append(("missing", "Left out", f'<ul class="missing">{items}</ul>'))
    links = "".join(f'<a href="#{name}">{escape(title)}</a>' for name, title, _ in sections)
    body = "".join(
        f'<section id="{name}"><h2>{escape(title)}</h2>{inner}</section>'
        for name, title, inner in sections
    )
    content = f"<main>{headline_html(cohorts)}<nav>{links}</nav>{body}{_footer(runs)}</main>"
    return _document(", ".join(cohort.label for cohort in cohorts), content)


def _document(title: str, content: str) -> str:
    style = _asset("page.css")
    script = _asset("page.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    # Only this very script may run, and nothing may be fetched, whatever a model wrote.
    policy = (
        f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<link rel="icon" href="data:,">'
        f"<title>e3mega report: {escape(title)}</title><style>{style}</style></head>"
        f"<body>{content}<script>{script}</script></body></html>\n"
    )


def _asset(name: str) -> str:
    return files("e3mega.report").joinpath(name).read_text(encoding="utf-8").strip()


def _figure_html(row: FigureRow, drawing: Drawing) -> str:
    panels = "".join(
        f"<figure><figcaption><h3>{escape(panel.title)}</h3></figcaption>{panel.svg}</figure>"
        for panel in drawing.panels
    )
    notes = "".join(f'<p class="note">{escape(note)}</p>' for note in drawing.notes)
    csv = quote(drawing.table.csv())
    # Three panels fill a row on a desktop; words stand beside fewer and below as many.
    place = "words below" if len(drawing.panels) % 3 == 0 else "words"
    words = (
        f'<div class="{place}"><p>{escape(row.how_to_read)}</p>{notes}'
        f'<p><a download="{row.name}.csv" href="data:text/csv;charset=utf-8,{csv}">'
        f"{row.name}.csv</a>, {len(drawing.table.rows)} rows</p></div>"
    )
    return f'<div class="panels">{panels}{words}</div>'


def _rollouts_html(runs: Sequence[Run]) -> str:
    # A run without a readable plan cannot say how many to show; the schema knows.
    plan = runs[0].plan
    count = (plan.logging if plan is not None else LoggingOptions()).num_report_rollouts
    share = max(1, count // len(runs))
    shown = [rollout for run in runs for rollout in read_shown_rollouts(run, share)]
    if not shown:
        return ""
    how = "A mix of stages and outcomes. Each line is one attempt; the answer is highlighted."
    return f'<p class="how">{how}</p>{cards_html(shown, with_run=len(runs) > 1)}'


def _spec_html(runs: Sequence[Run]) -> str:
    parts: list[str] = []
    for run in runs:
        if not run.paths.resolved.exists():
            continue
        spec = escape(run.paths.resolved.read_text(encoding="utf-8", errors="replace"))
        spec = re.sub(r"(?m)(\s#\s.*)$", r'<span class="origin">\1</span>', spec)
        name = escape(f"{run.name}, seed {run.seed}")
        parts.append(f"<details><summary>{name}</summary><pre>{spec}</pre></details>")
    return "".join(parts)


def _footer(runs: Sequence[Run]) -> str:
    stamps = [
        f"{run.name}: run fingerprint {run.plan.run_fingerprint[:16]}, e3mega "
        f"{run.plan.e3mega_version}"
        for run in runs
        if run.plan is not None
    ]
    return f"<footer>{escape('; '.join(stamps))}</footer>" if stamps else ""
