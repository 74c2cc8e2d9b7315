"""`practicum report`: one list of panels becomes a local HTML page that needs no network, and a W&B workspace."""

import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from html import escape
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any

from experiments.catalogue import Arguments
from experiments.page.charts import finite
from experiments.page.groups import Comparison, compare, num_steps
from experiments.page.panels import Drawn, Panel, draw_panels
from experiments.runs import Run, find_run, load_runs, runs_root, write_atomically


def main(argv: list[str]) -> int:
    """Read the runs named on the command line and write the page; returns the exit code."""
    parser = Arguments(prog="practicum report", description="One page (HTML, no network) that compares runs.")
    parser.add_argument("runs", nargs="+", metavar="RUNS", help="run folders, or folders that hold runs")
    parser.add_argument("--out", type=Path, metavar="DIR", help="where index.html goes (default: report/ beside the runs)")
    parser.add_argument("--title", default="", help="the page's headline")
    parser.add_argument("--wandb", action="store_true", help="also build the W&B workspace of the same panels")
    arguments = parser.parse_args(argv)
    folders = [_found(name) for name in arguments.runs]
    comparison = compare(load_runs(folders), arguments.title)
    drawn, missing = draw_panels(comparison)
    out = arguments.out or folders[0] / "report"
    print(f"page: {_write(comparison, drawn, missing, out)}")
    if arguments.wandb:
        from experiments.page.workspace import publish

        print(publish(comparison, drawn, out))
    return 0


def write_page(runs: Sequence[Run], out: Path, title: str = "") -> Path:
    """Write index.html (everything inside it) and numbers.json (every number drawn, with run ids) and return the page's path.

    Raises ValueError where there are no runs.
    """
    comparison = compare(runs, title)
    return _write(comparison, *draw_panels(comparison), out)


def _write(comparison: Comparison, drawn: list[tuple[Panel, Drawn]], missing: list[Panel], out: Path) -> Path:
    body = "".join(
        f'<section id="{panel.slug}"><h2>{escape(panel.title)}</h2><p class="caption">{escape(panel.caption)}</p>{result.html}</section>'
        for panel, result in drawn
    )
    if missing:
        named = "; ".join(f"“{panel.title}” needs {panel.wants}" if panel.wants else f"“{panel.title}”" for panel in missing)
        body += f'<section><p class="missing">Not on this page, because no run holds it: {escape(named)}.</p></section>'
    record = {
        "title": comparison.title,
        "groups": {
            group.label: {
                "settings": group.settings,
                "runs": [{"id": run.id, "experiment": run.name, "seed": run.seed} for run in group.runs],
            }
            for group in comparison.groups
        },
        "panels": {panel.slug: result.numbers for panel, result in drawn},
    }
    out.mkdir(parents=True, exist_ok=True)
    numbers = json.dumps(finite(record), indent=1, ensure_ascii=False, default=str) + "\n"
    write_atomically(out / "numbers.json", numbers)
    write_atomically(out / "index.html", _document(comparison, body))
    return out / "index.html"


def _found(name: str) -> Path:
    folder = Path(name)
    if folder.is_dir():
        return folder
    if (runs_root() / name).is_dir():
        return runs_root() / name
    return find_run(name)


def _document(comparison: Comparison, body: str) -> str:
    from plotly.offline import get_plotlyjs

    folder = resources.files("experiments.page")
    template, style, script = ((folder / name).read_text(encoding="utf-8") for name in ("template.html", "style.css", "script.js"))
    num_runs = len(comparison.runs)
    return Template(template).substitute(
        title=escape(_capital(comparison.title)),
        eyebrow=f"practicum · {num_runs} run{'s' if num_runs > 1 else ''}",
        facts=_facts(comparison),
        legend=_legend(comparison),
        body=body,
        written=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        style=style,
        plotly=get_plotlyjs() if 'class="plot"' in body else "const Plotly = null;",
        script=script,
    )


def _capital(title: str) -> str:
    return title if "_" in title.split(" ")[0] else title[:1].upper() + title[1:]


def _legend(comparison: Comparison) -> str:
    if len(comparison.groups) < 2:
        return ""
    buttons = "".join(
        f'<button type="button" data-legend="{escape(group.label)}" aria-pressed="true" style="--group:var(--{group.index % 8})">'
        f"{escape(group.label)}</button>"
        for group in comparison.groups
    )
    return f'<nav class="legend" aria-label="groups"><div>{buttons}<span>a click hides a group everywhere</span></div></nav>'


def _facts(comparison: Comparison) -> str:
    """Groups, seeds, data, steps, parameters, device and date, each only if the runs say it."""
    status: list[dict[str, Any]] = [run.status for run in comparison.runs]

    def said(key: str) -> list[Any]:
        return list(dict.fromkeys(str(one[key]) for one in status if one.get(key) is not None))

    days = sorted({str(one["started"])[:10] for one in status if one.get("started")})
    seconds = sum(float(one["seconds"]) for one in status if isinstance(one.get("seconds"), int | float))
    parameters = [f"{int(number):,}" if number.isdigit() else number for number in said("parameters")]
    steps = [f"{number:,}" for number in dict.fromkeys(num_steps(run) for run in comparison.runs) if number]
    facts = {
        "Groups": str(len(comparison.groups)),
        "Seeds": ", ".join(map(str, comparison.seeds)),
        "Data": ", ".join(said("title")),
        "Training steps": _few(steps),
        "Parameters": _few(parameters),
        "Device": ", ".join(said("device")),
        "When": days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}" if days else "",
        "Training time": f"{seconds / 60:.0f} min in all" if seconds >= 90 else f"{seconds:.0f} s in all" if seconds else "",
    }
    rows = "".join(f"<div><dt>{name}</dt><dd>{escape(value)}</dd></div>" for name, value in facts.items() if value)
    return f'<dl class="facts">{rows}</dl>'


def _few(values: list[str]) -> str:
    return ", ".join(values) if len(values) <= 4 else f"{values[0]} to {values[-1]}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
