"""What needs no training, drawn: the schedules' curves, and how much spread each sampler loses with the exact denoiser."""

import math
from html import escape
from typing import Any

from experiments.page import closed_form
from experiments.page.charts import Drawn, axis, chart, colour, log_ticks, side_by_side, slug
from experiments.page.groups import Comparison
from experiments.page.pictures import draw_pictures


def draw_noising(comparison: Comparison, keys: list[str]) -> Drawn | None:
    pictures = draw_pictures(comparison, keys)
    curves = _schedules(comparison)
    if pictures is None and curves is None:
        return None
    parts = [part for part in (pictures, curves) if part is not None]
    return Drawn("".join(part.html for part in parts), {key: value for part in parts for key, value in part.numbers.items()})


def _schedules(comparison: Comparison) -> Drawn | None:
    """Draw alpha-bar of each schedule in the runs' configs, and say in words how much of each chain is nearly pure noise."""
    found = closed_form.schedule_curves(comparison)
    if not found:
        return None
    traces: list[dict[str, Any]] = []
    said, numbers = [], {}
    for curve in found:
        traces.append(
            {
                "type": "scatter",
                "mode": "lines",
                "name": curve.label,
                "x": curve.t,
                "y": curve.alpha_bar,
                "legendgroup": curve.label,
                "line": {"color": curve.colour, "width": 2.4},
                "hovertemplate": "t=%{x:.2f}: ᾱ=%{y:.4f}<extra>" + escape(curve.label) + "</extra>",
            }
        )
        said.append(f"<b>{escape(curve.label)}</b> {curve.share_of_noise:.0%}")
        numbers[curve.label] = {
            "t": curve.t,
            "alpha_bar": curve.alpha_bar,
            "share with alpha_bar < 0.01": curve.share_of_noise,
        }
    layout = {
        "xaxis": axis("t (0 is clean, 1 is noise)", range=[0, 1]),
        "yaxis": axis("", range=[-0.02, 1.02]),
        "showlegend": len(comparison.groups) > 1 and [curve.label for curve in found] != [group.label for group in comparison.groups],
    }
    halves = [{**trace, "y": [value if value > 0 else None for value in trace["y"]]} for trace in traces]
    log_layout = {**layout, "yaxis": axis("", log=True, range=[-6, 0.1], **log_ticks(1e-6, 1))}
    html = chart("alpha-bar", {"data": traces, "layout": layout}, "Share of signal left, ᾱ(t)")
    html += chart("alpha-bar-log", {"data": halves, "layout": log_layout}, "The same on a logarithmic axis")
    share = f"Share of the clock spent with less than 1 % of the signal’s variance left (ᾱ &lt; 0.01): {', '.join(said)}."
    return Drawn(f'{side_by_side(html)}<p class="caption">{share}</p>', {"schedules": numbers})


def draw_exact(comparison: Comparison, keys: list[str]) -> Drawn | None:
    """Draw |std - s| of what each sampler makes of Gaussian data with the exact denoiser: one chart a sampler."""
    errors = closed_form.exact_errors(comparison)
    if not errors:
        return None
    html = ""
    schedules = list(dict.fromkeys(row.schedule for row in errors))
    tints = {row.schedule: row.colour or colour(schedules.index(row.schedule)) for row in errors}
    for sampler in dict.fromkeys(row.sampler for row in errors):
        traces = []
        for schedule in schedules:
            points = [row for row in errors if row.sampler == sampler and row.schedule == schedule]
            if not points:
                continue
            ours = points[0].colour is not None
            traces.append(
                {
                    "type": "scatter",
                    "mode": "lines+markers",
                    "name": schedule,
                    "showlegend": False,
                    **({"legendgroup": schedule} if ours else {}),
                    "x": [row.num_steps for row in points],
                    "y": [max(row.error, closed_form.FLOOR) for row in points],
                    "customdata": [row.std for row in points],
                    "hovertemplate": "%{x} steps: std %{customdata:.4f}, off by %{y:.2g}<extra>" + escape(schedule) + "</extra>",
                    "line": {
                        "color": tints[schedule],
                        "width": 2.4 if ours else 1.2,
                        "dash": "solid" if ours else "dot",
                    },
                    "marker": {"size": 6 if ours else 4},
                }
            )
        layout = {
            "height": 290,
            "showlegend": False,
            "xaxis": axis(
                "sampling steps",
                log=True,
                tickvals=list(closed_form.STEPS),
                ticktext=[str(k) for k in closed_form.STEPS],
            ),
            "yaxis": axis("", log=True, range=[math.log10(closed_form.FLOOR), -0.2], **log_ticks(closed_form.FLOOR, 1)),
        }
        html += chart(slug("exact", sampler), {"data": traces[::-1], "layout": layout}, sampler)
    numbers = [
        {"schedule": row.schedule, "sampler": row.sampler, "steps": row.num_steps, "std": row.std, "error": row.error} for row in errors
    ]
    ours_named = {row.schedule for row in errors if row.colour}
    key = "".join(
        f'<span><i style="--group:var(--{tints[name][1:]})"{"" if name in ours_named else " class=other"}></i>{escape(name)}</span>'
        for name in schedules
    )
    text = "| schedule | sampler | " + " | ".join(map(str, closed_form.STEPS)) + " |\n|---|---|" + "---|" * len(closed_form.STEPS)
    for schedule, sampler in dict.fromkeys((row.schedule, row.sampler) for row in errors):
        cells = {row.num_steps: f"{row.error:.1e}" for row in errors if (row.schedule, row.sampler) == (schedule, sampler)}
        text += f"\n| {schedule} | {sampler} | " + " | ".join(cells.get(steps, "") for steps in closed_form.STEPS) + " |"
    return Drawn(f'<p class="key">{key}</p>{side_by_side(html)}', {"data_std": closed_form.DATA_STD, "rows": numbers}, text)
