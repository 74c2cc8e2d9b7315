"""The tables: the runs with what sets them apart, and what each metric says of itself."""

from collections.abc import Sequence
from html import escape
from typing import Any

from experiments.page.charts import Drawn
from experiments.page.groups import Comparison, num_steps, seed, short
from experiments.page.metrics import metrics_of


def draw_runs(comparison: Comparison, keys: list[str]) -> Drawn | None:
    """One row a run; of the settings only those that differ."""
    metrics = metrics_of(comparison)
    alone = len(comparison.differing) == 1  # then the group's label says it
    differing = [] if alone else comparison.differing
    group_head = comparison.differing[0] if alone else "group"
    head = [group_head, *differing, "seed", *[metric.name for metric in metrics], "steps", "minutes", "run"]
    numeric = {head.index("seed"), *range(len(differing) + 2, len(head) - 1)}
    rows, numbers = [], []
    for group in comparison.groups:
        for run in group.runs:
            values = [run.last(metric.key) for metric in metrics]
            seconds = run.status.get("seconds")
            minutes = round(float(seconds) / 60, 1) if isinstance(seconds, int | float) else None
            rows.append(
                [
                    f'<span class="dot" style="--group:var(--{group.index % 8})"></span>{escape(group.label)}',
                    *[escape(short(group.settings.get(name))) for name in differing],
                    str(seed(run)),
                    *[_cell(value) for value in values],
                    str(num_steps(run)),
                    _cell(minutes),
                    f"<span class=id>{escape(run.id.removeprefix(run.name + '-'))}</span>",
                ]
            )
            numbers.append(
                {
                    "run": run.id,
                    "group": group.label,
                    "seed": seed(run),
                    **dict(zip([metric.key for metric in metrics], values, strict=True)),
                }
            )
    note = ""
    if comparison.left_out:
        listed = "; ".join(f"{escape(run.name)}/{escape(run.id)} ({escape(why)})" for run, why in comparison.left_out)
        note = f'<p class="note">Left out of every figure: {listed}.</p>'
    return Drawn(table(head, rows, numeric, sortable=True) + note, numbers)


def table(head: Sequence[str], rows: Sequence[Sequence[str]], numeric: set[int], sortable: bool = False) -> str:
    """Return an HTML table in a box of its own that scrolls sideways; cells are HTML already."""

    def cells(tag: str, row: Sequence[str]) -> str:
        return "".join(f"<{tag}{' class=number' if place in numeric else ''}>{cell}</{tag}>" for place, cell in enumerate(row))

    body = "".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    return (
        f'<div class="table" tabindex="0"><table{" class=sortable" if sortable else ""}>'
        f"<thead><tr>{cells('th', [escape(name) for name in head])}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _cell(value: Any) -> str:
    return "–" if value is None else f"{value:.4g}" if isinstance(value, float) else escape(str(value))


def draw_measured(comparison: Comparison, keys: list[str]) -> Drawn | None:
    """What each metric says of itself, once where all runs agree; the versions; the commands."""
    html, numbers = "", {}
    for key in keys:
        declared = [(group, run.about[key]) for group in comparison.groups for run in group.runs if key in run.about]
        rows = []
        for name in dict.fromkeys(name for _, about in declared for name in about):
            values = {short(about.get(name)) for _, about in declared}
            rows.append(
                [
                    escape(name),
                    escape(", ".join(sorted(values)) if len(values) < 6 else f"{len(values)} different values"),
                ]
            )
        html += f"<details><summary><code>{escape(key)}</code></summary>{table(['', ''], rows, set())}</details>".replace(
            "<td>", "<td class=wide>"
        )
        numbers[key] = {run.id: run.about[key] for run in comparison.runs if key in run.about}
    versions = {f"{name} {version}" for run in comparison.runs for name, version in (run.status.get("versions") or {}).items()}
    if versions:
        html += f"<details><summary>Versions</summary><p>{escape(', '.join(sorted(versions)))}</p></details>"
    commands = list(dict.fromkeys(str(run.status["command"]) for run in comparison.runs if run.status.get("command")))
    if commands:
        html += f"<h3>To run it again</h3><pre>{escape(chr(10).join(commands[:12]))}</pre>"
    text = "\n".join(f"- `{key}`: {short(next(iter(declared.values())))}" for key, declared in numbers.items())
    return Drawn(html, {"declarations": numbers, "versions": sorted(versions), "commands": commands}, text) if html else None
