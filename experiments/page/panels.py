"""The one list of panels: what a page (or a W&B workspace) shows of a comparison, in the order in which a person meets it."""

import base64
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any, Literal

from experiments.page import closed_form
from experiments.page.charts import axis, chart, colour, dots, lines, log_ticks, thinned
from experiments.page.groups import Comparison, Group, num_steps, seed, short
from experiments.page.metrics import metrics_of
from experiments.page.verdicts import draw_verdicts, verdict_numbers
from experiments.runs import Run

MAX_SEEDS_SHOWN = 8  # pictures are inside the page: those of further seeds stay in their run folders


@dataclass(frozen=True)
class Drawn:
    """A panel as HTML, the numbers that were drawn and, for a panel of words, its Markdown."""

    html: str
    numbers: Any = None
    text: str = ""


@dataclass(frozen=True)
class Panel:
    """One thing to look at. `keys` names what it reads of the runs; `draw` makes the page's part of it, or None without data;
    `board` says as which kind of W&B panel the same keys are shown.
    """

    slug: str
    title: str
    caption: str
    keys: Callable[[Comparison], list[str]]
    draw: Callable[[Comparison, list[str]], Drawn | None]
    board: Literal["text", "media", "runs", "lines", "bars", "table"]
    wants: str = ""  # what a run must log for this panel to be drawn


def keys_named(*names: str) -> Callable[[Comparison], list[str]]:
    """Return a function that keeps the names that some run has logged: as scalar, table or picture."""

    def present(comparison: Comparison) -> list[str]:
        return [name for name in names if any(name in kind for run in comparison.runs
                                              for kind in (run.scalars, run.tables, run.media))]

    return present


def metric_keys(comparison: Comparison) -> list[str]:
    return [metric.key for metric in metrics_of(comparison)]


def curve_keys(comparison: Comparison) -> list[str]:
    """The losses and metrics that were logged at two steps or more."""
    grown = {key for run in comparison.runs for key, points in run.scalars.items() if len({step for step, _ in points}) > 1}
    losses = [key for key in comparison.logged() if key.rsplit("/", 1)[-1] == "loss"]
    return [key for key in dict.fromkeys([*losses, *metric_keys(comparison)]) if key in grown]


def declared_keys(comparison: Comparison) -> list[str]:
    return list(dict.fromkeys(key for run in comparison.runs for key in run.about))


# Pictures ------------------------------------------------------------------------------------------------------------------

def draw_samples(comparison: Comparison, keys: list[str]) -> Drawn | None:
    return _pictures(comparison, keys, "grids")


def draw_samples_as_strips(comparison: Comparison, keys: list[str]) -> Drawn | None:
    return _pictures(comparison, keys, "strips")


def draw_noising(comparison: Comparison, keys: list[str]) -> Drawn | None:
    pictures = _pictures(comparison, keys, "strips")
    curves = _schedule_charts(comparison)
    if pictures is None and curves is None:
        return None
    parts = [part for part in (pictures, curves) if part is not None]
    return Drawn("".join(part.html for part in parts), {key: value for part in parts for key, value in part.numbers.items()})


def _pictures(comparison: Comparison, keys: list[str], layout: str) -> Drawn | None:
    """Show the last picture of each group side by side, for one seed at a time: a seed that all groups have, if there is one."""
    html, numbers = "", {}
    for key in keys:
        having = {number: [group for group in comparison.groups if (run := group.run_of(number)) and _is_there(run, key)]
                  for number in comparison.seeds}
        having = {number: groups for number, groups in having.items() if groups}
        if not having:
            continue
        most = max(len(groups) for groups in having.values())
        shown = sorted(having, key=lambda number: len(having[number]) < most)[:MAX_SEEDS_SHOWN]
        buttons = "".join(f'<button type="button" data-show="{number}" aria-pressed="{str(number == shown[0]).lower()}">'
                          f"{number}</button>" for number in shown)
        figures = "".join(_picture(group, number, key, number != shown[0]) for number in shown for group in having[number])
        bar = f'<div class="seeds">Seed {buttons}</div>' if len(shown) > 1 else ""
        many = " many" if most > 2 else ""
        html += f'<div>{bar}<div class="{layout}{many}">{figures}</div></div>'
        numbers[key] = {str(number): {group.label: _run_of(group, number).id for group in having[number]} for number in shown}
    return Drawn(html, numbers) if html else None


def _picture(group: Group, number: int, key: str, hidden: bool) -> str:
    run = _run_of(group, number)
    data = base64.b64encode(run.media[key].read_bytes()).decode()
    kind = "jpeg" if run.media[key].suffix.lower() in (".jpg", ".jpeg") else run.media[key].suffix.lower().lstrip(".") or "png"
    return (
        f'<figure data-group="{escape(group.label)}" data-seed="{number}" style="--group:var(--{group.index % 8})"'
        f'{" hidden" if hidden else ""}><div class="strip-box">'
        f'<img src="data:image/{kind};base64,{data}" alt="{escape(key)} of {escape(group.label)}, seed {number}"></div>'
        f"<figcaption><b>{escape(group.label)}</b> · seed {number} · run {escape(run.id)}</figcaption></figure>"
    )


def _run_of(group: Group, number: int) -> Run:
    run = group.run_of(number)
    assert run is not None
    return run


def _is_there(run: Run, key: str) -> bool:
    return key in run.media and Path(run.media[key]).is_file()


# Tables --------------------------------------------------------------------------------------------------------------------

def draw_runs(comparison: Comparison, keys: list[str]) -> Drawn | None:
    """One row a run; of the settings only those that differ."""
    metrics = metrics_of(comparison)
    head = ["group", *comparison.differing, "seed", *[metric.name for metric in metrics], "steps", "minutes", "run"]
    numeric = {head.index("seed"), *range(len(comparison.differing) + 2, len(head) - 1)}
    rows, numbers = [], []
    for group in comparison.groups:
        for run in group.runs:
            values = [run.last(metric.key) for metric in metrics]
            seconds = run.status.get("seconds")
            minutes = round(float(seconds) / 60, 1) if isinstance(seconds, int | float) else None
            rows.append([
                f'<span class="dot" style="--group:var(--{group.index % 8})"></span>{escape(group.label)}',
                *[escape(short(group.settings.get(name))) for name in comparison.differing], str(seed(run)),
                *[_cell(value) for value in values], str(num_steps(run)), _cell(minutes), escape(run.id),
            ])
            numbers.append({"run": run.id, "group": group.label, "seed": seed(run),
                            **dict(zip([metric.key for metric in metrics], values, strict=True))})
    note = ""
    if comparison.left_out:
        listed = "; ".join(f"{escape(run.name)}/{escape(run.id)} ({escape(why)})" for run, why in comparison.left_out)
        note = f'<p class="note">Left out of every figure: {listed}.</p>'
    return Drawn(table(head, rows, numeric, sortable=True) + note, numbers)


def table(head: Sequence[str], rows: Sequence[Sequence[str]], numeric: set[int], sortable: bool = False) -> str:
    """Return an HTML table in a box of its own that scrolls sideways; cells are HTML already."""
    def cells(tag: str, row: Sequence[str]) -> str:
        return "".join(f'<{tag}{" class=number" if place in numeric else ""}>{cell}</{tag}>' for place, cell in enumerate(row))

    body = "".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    return (f'<div class="table" tabindex="0"><table{" class=sortable" if sortable else ""}>'
            f"<thead><tr>{cells('th', [escape(name) for name in head])}</tr></thead><tbody>{body}</tbody></table></div>")


def _cell(value: Any) -> str:
    return "–" if value is None else f"{value:.4g}" if isinstance(value, float) else escape(str(value))


# Charts --------------------------------------------------------------------------------------------------------------------

def draw_curves(comparison: Comparison, keys: list[str]) -> Drawn | None:
    html, numbers = "", {}
    names = {metric.key: metric.label for metric in metrics_of(comparison)}
    for key in keys:
        curves = {group.label: {seed(run): thinned(run.scalars[key]) for run in group.runs if key in run.scalars}
                  for group in comparison.groups}
        figure, drawn = lines(curves, axis("step"), axis("", log=key.endswith("loss")))
        if drawn:
            html += chart(_slug("curve", key), figure, names.get(key, key))
            numbers[key] = drawn
    return Drawn(_charts(html), numbers) if html else None


def draw_metrics(comparison: Comparison, keys: list[str]) -> Drawn | None:
    html, numbers = "", {}
    for metric in metrics_of(comparison):
        figure, drawn = dots({group.label: group.values(metric.key) for group in comparison.groups}, "")
        if drawn:
            html += chart(_slug("metric", metric.key), figure, metric.label)
            numbers[metric.key] = {"better": metric.better, "groups": drawn}
    return Drawn(_charts(html), numbers) if html else None


def draw_loss_by_noise(comparison: Comparison, keys: list[str]) -> Drawn | None:
    """The loss over the clock and, where the schedules are known, over the noise itself, on which they can be compared."""
    curves = _table_curves(comparison, keys[0]) if keys else {}
    figure, drawn = lines(curves, axis("t (0 is clean, 1 is noise)"), axis("", log=True))
    if not drawn:
        return None
    html = chart("loss-by-t", figure, "Error of the predicted noise at clock time t")
    numbers = {"by t": drawn}
    moved = {}
    for group in comparison.groups:
        snr = closed_form.log_snr(group.runs[0].config, sorted({t for points in curves[group.label].values() for t, _ in points}))
        if snr:
            moved[group.label] = {number: sorted((snr[t], loss) for t, loss in points if t in snr)
                                  for number, points in curves[group.label].items()}
    if len(moved) == len(comparison.groups):
        reached = [[snr for points in by_seed.values() for snr, _ in points] for by_seed in moved.values()]
        shared = [min(map(max, reached)) + 0.2, max(map(min, reached)) - 0.2]  # where every schedule goes, from clean to noise
        figure, drawn = lines(moved, axis("log₁₀ signal-to-noise ratio", range=shared), axis("", log=True))
        html += chart("loss-by-snr", figure, "The same, at equal noise", "From clean (left) to noise (right).")
        numbers["by log10 SNR"] = drawn
    return Drawn(_charts(html), numbers)


def draw_fewer_steps(comparison: Comparison, keys: list[str]) -> Drawn | None:
    html, numbers = "", {}
    for key in keys:
        steps = key.endswith("steps")
        abscissa = axis("sampling steps", log=True) if steps else axis("share of the chain skipped", tickformat=".0%")
        figure, drawn = lines(_table_curves(comparison, key), abscissa, axis("", log=True))
        if drawn:
            if steps:
                ticks = sorted({x for group in drawn.values() for x in group["x"]})
                figure["layout"]["xaxis"] |= {"tickvals": ticks, "ticktext": [f"{tick:g}" for tick in ticks]}
            html += chart(_slug("steps", key), figure, "Fréchet distance, " + ("by number of steps" if steps else "by skipped share"))
            numbers[key] = drawn
    return Drawn(_charts(html), numbers) if html else None


def _table_curves(comparison: Comparison, key: str) -> dict[str, dict[int, list[tuple[float, float]]]]:
    """{group: {seed: [(first column, last column)]}} of a logged table."""
    return {group.label: {seed(run): sorted((float(row[0]), float(row[-1])) for row in run.tables[key].rows
                                            if all(isinstance(cell, int | float) for cell in (row[0], row[-1])))
                          for run in group.runs if key in run.tables} for group in comparison.groups}


def _schedule_charts(comparison: Comparison) -> Drawn | None:
    """Draw alpha-bar of each schedule in the runs' configs, and say in words how much of each chain is nearly pure noise."""
    found = closed_form.schedule_curves(comparison)
    if not found:
        return None
    traces: list[dict[str, Any]] = []
    said, numbers = [], {}
    for curve in found:
        traces.append({"type": "scatter", "mode": "lines", "name": curve.label, "x": curve.t, "y": curve.alpha_bar,
                       "legendgroup": curve.label, "line": {"color": curve.colour, "width": 2.4},
                       "hovertemplate": "t=%{x:.2f}: ᾱ=%{y:.4f}<extra>" + escape(curve.label) + "</extra>"})
        said.append(f"<b>{escape(curve.label)}</b> {curve.share_of_noise:.0%}")
        numbers[curve.label] = {"t": curve.t, "alpha_bar": curve.alpha_bar, "share with alpha_bar < 0.01": curve.share_of_noise}
    layout = {"xaxis": axis("t (0 is clean, 1 is noise)", range=[0, 1]), "yaxis": axis("", range=[-0.02, 1.02]),
              "showlegend": len(found) == 1 and len(comparison.groups) > 1}
    halves = [{**trace, "y": [value if value > 0 else None for value in trace["y"]]} for trace in traces]
    log_layout = {**layout, "yaxis": axis("", log=True, range=[-6, 0.1], **log_ticks(1e-6, 1))}
    html = chart("alpha-bar", {"data": traces, "layout": layout}, "Share of signal left, ᾱ(t)")
    html += chart("alpha-bar-log", {"data": halves, "layout": log_layout}, "The same on a logarithmic axis")
    share = f'<p class="caption">Share of the clock spent with less than 1 % of the signal’s variance left (ᾱ &lt; 0.01): {", ".join(said)}.</p>'
    return Drawn(_charts(html) + share, {"schedules": numbers})


def draw_exact(comparison: Comparison, keys: list[str]) -> Drawn | None:
    """Draw |std - s| of what each sampler makes of Gaussian data with the exact denoiser: one chart a sampler."""
    table_ = closed_form.exact_errors(comparison)
    if not table_:
        return None
    html = ""
    schedules = list(dict.fromkeys(row.schedule for row in table_))
    tints = {row.schedule: row.colour or colour(schedules.index(row.schedule)) for row in table_}
    for sampler in dict.fromkeys(row.sampler for row in table_):
        traces = []
        for schedule in schedules:
            points = [row for row in table_ if row.sampler == sampler and row.schedule == schedule]
            if not points:
                continue
            ours = points[0].colour is not None
            traces.append({
                "type": "scatter", "mode": "lines+markers", "name": schedule, "showlegend": False,
                **({"legendgroup": schedule} if ours else {}),
                "x": [row.num_steps for row in points], "y": [max(row.error, closed_form.FLOOR) for row in points],
                "customdata": [row.std for row in points],
                "hovertemplate": "%{x} steps: std %{customdata:.4f}, off by %{y:.2g}<extra>" + escape(schedule) + "</extra>",
                "line": {"color": tints[schedule], "width": 2.4 if ours else 1.2, "dash": "solid" if ours else "dot"},
                "marker": {"size": 6 if ours else 4},
            })
        layout = {"height": 290, "showlegend": False,
                  "xaxis": axis("sampling steps", log=True, tickvals=list(closed_form.STEPS), ticktext=[str(k) for k in closed_form.STEPS]),
                  "yaxis": axis("", log=True, range=[math.log10(closed_form.FLOOR), -0.2], **log_ticks(closed_form.FLOOR, 1))}
        html += chart(_slug("exact", sampler), {"data": traces[::-1], "layout": layout}, sampler)
    numbers = [{"schedule": row.schedule, "sampler": row.sampler, "steps": row.num_steps, "std": row.std, "error": row.error}
               for row in table_]
    key = "".join(f'<span><i style="--group:var(--{tints[name][1:]})"{"" if any(row.schedule == name and row.colour for row in table_) else " class=other"}>'
                  f"</i>{escape(name)}</span>" for name in schedules)
    text = "| schedule | sampler | " + " | ".join(map(str, closed_form.STEPS)) + " |\n|---|---|" + "---|" * len(closed_form.STEPS)
    for schedule, sampler in dict.fromkeys((row.schedule, row.sampler) for row in table_):
        errors = {row.num_steps: f"{row.error:.1e}" for row in table_ if (row.schedule, row.sampler) == (schedule, sampler)}
        text += f"\n| {schedule} | {sampler} | " + " | ".join(errors.get(steps, "") for steps in closed_form.STEPS) + " |"
    return Drawn(f'<p class="key">{key}</p>{_charts(html)}', {"data_std": closed_form.DATA_STD, "rows": numbers}, text)


# How it was measured ---------------------------------------------------------------------------------------------------------

def draw_measured(comparison: Comparison, keys: list[str]) -> Drawn | None:
    """What each metric says of itself, once where all runs agree; the versions; the commands."""
    html, numbers = "", {}
    for key in keys:
        declared = [(group, run.about[key]) for group in comparison.groups for run in group.runs if key in run.about]
        rows = []
        for name in dict.fromkeys(name for _, about in declared for name in about):
            values = {short(about.get(name)) for _, about in declared}
            rows.append([escape(name), escape(", ".join(sorted(values)) if len(values) < 6 else f"{len(values)} different values")])
        html += f"<details><summary><code>{escape(key)}</code></summary>{table(['', ''], rows, set())}</details>".replace("<td>", "<td class=wide>")
        numbers[key] = {run.id: run.about[key] for run in comparison.runs if key in run.about}
    versions = {f"{name} {version}" for run in comparison.runs for name, version in (run.status.get("versions") or {}).items()}
    if versions:
        html += f"<details><summary>Versions</summary><p>{escape(', '.join(sorted(versions)))}</p></details>"
    commands = list(dict.fromkeys(str(run.status["command"]) for run in comparison.runs if run.status.get("command")))
    if commands:
        html += f"<h3>To run it again</h3><pre>{escape(chr(10).join(commands[:12]))}</pre>"
    text = "\n".join(f"- `{key}`: {short(next(iter(declared.values())))}" for key, declared in numbers.items())
    return Drawn(html, {"declarations": numbers, "versions": sorted(versions), "commands": commands}, text) if html else None


def draw_verdict_list(comparison: Comparison, keys: list[str]) -> Drawn | None:
    html = draw_verdicts(comparison)
    numbers = verdict_numbers(comparison)
    return Drawn(html, numbers, "\n".join(f"- **{item['metric']}**: {item['sentence']}" for item in numbers)) if html else None


def _charts(html: str) -> str:
    return f'<div class="charts">{html}</div>'


def _slug(prefix: str, key: str) -> str:
    return f"{prefix}-" + "".join(letter if letter.isalnum() else "-" for letter in key.lower())


PANELS: tuple[Panel, ...] = (
    Panel(
        "verdict", "What the evidence allows to say",
        "Groups are compared seed by seed, since runs of one seed share initial weights, order of the data and noise wherever their settings agree. "
        "Each dot on the right is one seed’s difference; the bar is their mean with its 95 % interval. A bar that crosses zero shows no difference.",
        metric_keys, draw_verdict_list, "text", "a metric (val/fd_…, val/kid_…, val/bits_per_dim, val/class_accuracy)",
    ),
    Panel(
        "samples", "Samples, from the same noise",
        "Picture by picture both grids began from the same random numbers; what differs is the setting under comparison. Nothing was picked by eye: "
        "these are the first samples of the seed.",
        keys_named("val/samples"), draw_samples, "media", "val/samples",
    ),
    Panel("runs", "The runs", "Only the settings that differ have a column. A click on a heading sorts.", metric_keys, draw_runs, "runs"),
    Panel(
        "metrics", "Metrics at the end of training",
        "One dot per seed, a thin line between runs of the same seed; beside them the mean with its 95 % interval over seeds. "
        "Compare the lines rather than the intervals: seeds are paired.",
        metric_keys, draw_metrics, "bars", "a metric",
    ),
    Panel(
        "curves", "While training", "Mean over seeds with its 95 % interval; one thin line per seed.",
        curve_keys, draw_curves, "lines", "train/loss at two steps or more",
    ),
    Panel(
        "noising", "How noise arrives",
        "The same images at ever later times of the noise clock, and the closed form behind them.",
        keys_named("val/noising"), draw_noising, "media", "val/noising",
    ),
    Panel(
        "denoising", "How noise leaves",
        "What the network takes the clean image for, at moments of one sampling from noise (left) to picture (right).",
        keys_named("val/denoising"), draw_samples_as_strips, "media", "val/denoising",
    ),
    Panel(
        "loss-by-noise", "Error by noise level",
        "Two schedules put different noise at the same clock time, so the left picture compares unlike tasks; the right one compares them at equal noise.",
        keys_named("val/loss_by_noise"), draw_loss_by_noise, "table", "val/loss_by_noise",
    ),
    Panel(
        "fewer-steps", "Fewer steps",
        "The same networks, sampled in fewer steps, or with the noisiest part of the chain left out.",
        keys_named("val/fd_by_steps", "val/fd_by_skipped"), draw_fewer_steps, "table", "val/fd_by_steps or val/fd_by_skipped",
    ),
    Panel(
        "exact", "The exact denoiser",
        "No network here. For data drawn from a Gaussian of standard deviation 0.5 the best denoiser is known in closed form, so whatever spread the samples lack "
        "is the fault of schedule, sampler and number of steps. Each chart shows how far the samples’ standard deviation is from 0.5; lower is better. "
        "Dotted: the other published schedules. A line that levels off belongs to a schedule whose cleanest step still holds noise.",
        lambda comparison: [], draw_exact, "text", "a diffusion schedule in its config",
    ),
    Panel(
        "measured", "How this was measured", "What each metric says of itself.",
        declared_keys, draw_measured, "text",
    ),
)


def draw_panels(comparison: Comparison) -> tuple[list[tuple[Panel, Drawn]], list[Panel]]:
    """Draw every panel that the runs have the data for; returns those drawn and those left out."""
    results = [(panel, panel.draw(comparison, panel.keys(comparison))) for panel in PANELS]
    return [(panel, drawn) for panel, drawn in results if drawn is not None], [panel for panel, drawn in results if drawn is None]
