"""The table before and after: accuracy over budgets of the base, each stage and the end."""

from rich.table import Table

from e3mega.metrics import Json
from e3mega.run.views.progress import Event

_SLICES = ("all", "easy", "hard")


def accuracy_table(events: list[Event]) -> Table | None:
    """Accuracy and its standard error per slice, a row per measured model; None without any.

    When a model was measured twice (a resumed run), the newest measurement counts.
    """
    newest = {
        (str(event["slice"]), str(event["label"])): event
        for event in events
        if event["event"] == "evaluation"
    }
    if not newest:
        return None
    labels = list(dict.fromkeys(label for _, label in newest))
    slices = list(dict.fromkeys((*_SLICES, *(name for name, _ in newest))))
    budgets = [str(budget) for budget in _list(next(iter(newest.values()))["budgets"])]
    table = Table(title="accuracy on held-out problems", box=None, padding=(0, 2, 0, 0))
    table.add_column("problems")
    table.add_column("model")
    for budget in budgets:
        table.add_column(f"{budget} tokens", justify="right")
    table.add_column("attempts", justify="right")
    for name in slices:
        rows = [(label, newest[name, label]) for label in labels if (name, label) in newest]
        for position, (label, event) in enumerate(rows):
            is_last = position == len(rows) - 1
            title = name if position == 0 else ""
            table.add_row(title, label, *_cells(event, budgets), end_section=is_last)
    return table


def _cells(event: Event, budgets: list[str]) -> list[str]:
    values = {
        str(budget): f"{accuracy:.3f}±{f'{stderr:.3f}'.removeprefix('0')}"
        for budget, accuracy, stderr in zip(
            _list(event["budgets"]), _list(event["accuracy"]), _list(event["stderr"]), strict=True
        )
    }
    attempts = event["mean_attempts"]
    assert isinstance(attempts, (int, float)), f"mean_attempts holds {attempts!r}"
    return [*(values.get(budget, "") for budget in budgets), f"{attempts:.1f}"]


def _list(value: Json) -> list[Json]:
    assert isinstance(value, list), f"an evaluation holds {value!r} where a list belongs"
    return value
