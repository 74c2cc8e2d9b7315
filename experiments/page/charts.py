"""Plotly figures as plain dicts. Colours are names ("@0" is the first group's, "@ink" the text's) which the page's script
turns into those of the light or the dark theme; "@0/0.2" is the same at 20 % opacity."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from experiments.statistics import interval

NUM_COLOURS = 8
DASHES = ("solid", "dash", "dot", "dashdot")

Series = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Drawn:
    """A panel as HTML, the numbers that were drawn and, for a panel of words, its Markdown."""

    html: str
    numbers: Any = None
    text: str = ""


def colour(index: int, opacity: float = 1.0) -> str:
    """Name the colour of group `index`."""
    return f"@{index % NUM_COLOURS}" + (f"/{opacity:g}" if opacity < 1 else "")


def chart(name: str, figure: Mapping[str, Any], label: str, note: str = "") -> str:
    """Return the HTML of one figure: an empty box that the script fills, and the figure as JSON."""
    payload = json.dumps(finite(figure), separators=(",", ":")).replace("<", "\\u003c")
    caption = f"<figcaption>{note}</figcaption>" if note else ""
    height = figure.get("layout", {}).get("height", 320)
    return (
        f'<figure class="chart"><h3>{escape(label)}</h3>'
        f'<div class="plot" id="plot-{escape(name)}" role="img" aria-label="{escape(label)}" style="height:{height}px"></div>'
        f'<script type="application/json">{payload}</script>{caption}</figure>'
    )


def side_by_side(charts: str) -> str:
    """Return charts in a grid: two in a row, one below the other on a phone."""
    return f'<div class="charts">{charts}</div>'


def slug(prefix: str, key: str) -> str:
    """Return a name for a figure that can be an id: curve-train-loss."""
    return f"{prefix}-" + "".join(letter if letter.isalnum() else "-" for letter in key.lower())


def finite(value: Any) -> Any:
    """Copy with NaN and infinities as None, which JSON can hold and plotly leaves out."""
    if isinstance(value, Mapping):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def axis(title: str, log: bool = False, **more: Any) -> dict[str, Any]:
    """Return an axis."""
    return {"title": {"text": title}, **({"type": "log"} if log else {}), **more}


def log_ticks(low: float, high: float) -> dict[str, Any]:
    """Return the ticks of a logarithmic axis from `low` to `high`: powers of ten, and numbers between them where they are few."""
    powers = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 1)
    ways = {5: (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8), 20: (1, 2, 3, 5), 100: (1, 2, 5), math.inf: (1,)}
    factors = next(factors for ratio, factors in ways.items() if high / low < ratio)
    ticks = [factor * 10.0**power for power in powers for factor in factors]
    texts = [f"10<sup>{round(math.log10(tick))}</sup>" if factors == (1,) and not 1e-3 <= tick < 1e5 else f"{tick:g}" for tick in ticks]
    return {"tickvals": ticks, "ticktext": texts}


def lines(
    curves: Mapping[str, Mapping[int, Series]], x: Mapping[str, Any], y: Mapping[str, Any], height: int = 320
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Draw one thin line per seed and, per group, the mean with its 95 % interval over seeds.

    `curves` is {group label: {seed: [(x, y)]}}; groups keep their colour by place. Returns the figure and its numbers.
    """
    traces: list[dict[str, Any]] = []
    numbers: dict[str, Any] = {}
    for index, (label, by_seed) in enumerate(curves.items()):
        by_seed = {number: [point for point in points if _drawn(point)] for number, points in by_seed.items()}
        means = mean_curve(list(by_seed.values()))
        if not means:
            continue
        shared = {"legendgroup": label, "hoverlabel": {"namelength": -1}}
        dash = DASHES[index // NUM_COLOURS % len(DASHES)]
        across = [point[0] for point in means]
        banded = [point for point in means if point[2] is not None]
        if banded:
            traces.append(
                {
                    "type": "scatter",
                    "mode": "lines",
                    "hoverinfo": "skip",
                    "showlegend": False,
                    "fill": "toself",
                    "x": [point[0] for point in banded] + [point[0] for point in reversed(banded)],
                    "y": [point[3] for point in banded] + [point[2] for point in reversed(banded)],
                    "fillcolor": colour(index, 0.16),
                    "line": {"width": 0, "color": colour(index)},
                    **shared,
                }
            )
        if len(by_seed) > 1:
            traces += [
                {
                    "type": "scatter",
                    "mode": "lines",
                    "name": f"{label}, seed {number}",
                    "showlegend": False,
                    "x": [point[0] for point in points],
                    "y": [point[1] for point in points],
                    "hoverinfo": "skip",
                    "line": {"width": 0.8, "color": colour(index, 0.45)},
                    **shared,
                }
                for number, points in by_seed.items()
            ]
        traces.append(
            {
                "type": "scatter",
                "mode": "lines+markers" if len(means) <= 16 else "lines",
                "name": label,
                "x": across,
                "y": [point[1] for point in means],
                "customdata": [interval_text(*point[1:]) for point in means],
                "hovertemplate": "%{x}: %{customdata}<extra>" + escape(label) + "</extra>",
                "line": {"width": 2.2, "color": colour(index), "dash": dash},
                "marker": {"size": 6, "color": colour(index)},
                **shared,
            }
        )
        numbers[label] = {
            "x": across,
            "mean": [point[1] for point in means],
            "low": [point[2] for point in means],
            "high": [point[3] for point in means],
            "seeds": {str(number): [list(point) for point in points] for number, points in by_seed.items()},
        }
    drawn = [value for group in numbers.values() for points in group["seeds"].values() for _, value in points]
    logarithmic = y.get("type") == "log" and bool(drawn) and min(drawn) > 0
    ordinate = {key: value for key, value in y.items() if logarithmic or key != "type"}
    layout = {
        "xaxis": dict(x),
        "yaxis": {**ordinate, **_range(drawn, logarithmic)},
        "showlegend": False,
        "height": height,
    }
    return {"data": traces, "layout": layout}, numbers


def mean_curve(curves: Sequence[Series]) -> list[tuple[float, float, float | None, float | None]]:
    """Return (x, mean, low, high) at every x that all seeds share; low and high are None with fewer than two seeds."""
    tables = [dict(points) for points in curves if points]
    if not tables:
        return []
    shared = sorted(set.intersection(*(set(table) for table in tables)))
    return [(x, *mean_and_interval([table[x] for table in tables])) for x in shared]


def mean_and_interval(values: Sequence[float]) -> tuple[float, float | None, float | None]:
    """Return the mean and its 95 % t-interval; no interval with fewer than two values."""
    found = interval(values)
    return (found.mean, found.low, found.high) if len(values) > 1 else (found.mean, None, None)


def thinned(points: Series, bins: int = 100) -> list[tuple[float, float]]:
    """Average a long curve in `bins` equal stretches of x, so that seeds are compared at the same places."""
    if len(points) <= bins:
        return list(points)
    start, end = points[0][0], points[-1][0]
    width = (end - start) / bins or 1.0
    gathered: dict[int, list[float]] = {}
    for x, y in points:
        if math.isfinite(y):
            gathered.setdefault(min(int((x - start) / width), bins - 1), []).append(y)
    return [(round(start + (place + 0.5) * width), sum(ys) / len(ys)) for place, ys in sorted(gathered.items())]


def dots(values: Mapping[str, Mapping[int, float]], title: str, height: int = 320) -> tuple[dict[str, Any], dict[str, Any]]:
    """Draw one dot per seed, a line between the dots of one seed, and beside them the mean with its 95 % interval."""
    traces: list[dict[str, Any]] = []
    numbers: dict[str, Any] = {}
    places = {label: float(index) for index, label in enumerate(values)}
    seeds = sorted({number for by_seed in values.values() for number in by_seed})
    for number in seeds:
        met = [(places[label], by_seed[number]) for label, by_seed in values.items() if number in by_seed]
        if len(met) > 1:
            traces.append(
                {
                    "type": "scatter",
                    "mode": "lines",
                    "x": [x for x, _ in met],
                    "y": [y for _, y in met],
                    "line": {"color": "@ink/0.18", "width": 1},
                    "hoverinfo": "skip",
                    "showlegend": False,
                    "meta": "pair",
                }
            )
    for index, (label, by_seed) in enumerate(values.items()):
        if not by_seed:
            continue
        mean, low, high = mean_and_interval(list(by_seed.values()))
        numbers[label] = {
            "mean": mean,
            "low": low,
            "high": high,
            "seeds": {str(key): value for key, value in by_seed.items()},
        }
        shared = {"type": "scatter", "legendgroup": label, "showlegend": False}
        traces.append(
            {
                "mode": "markers",
                "name": label,
                "x": [places[label]] * len(by_seed),
                "y": list(by_seed.values()),
                "customdata": list(by_seed),
                "hovertemplate": "seed %{customdata}: %{y:.4g}<extra>" + escape(label) + "</extra>",
                "marker": {"size": 9, "color": colour(index, 0.65), "line": {"width": 1, "color": "@paper"}},
                **shared,
            }
        )
        error = (
            {
                "error_y": {
                    "type": "data",
                    "symmetric": False,
                    "array": [high - mean],
                    "arrayminus": [mean - low],
                    "color": colour(index),
                    "thickness": 2,
                    "width": 5,
                }
            }
            if low is not None and high is not None
            else {}
        )
        traces.append(
            {
                "mode": "markers+text" if len(places) <= 4 else "markers",
                "x": [places[label] + 0.2],
                "y": [mean],
                "text": [f"&nbsp;{mean:.4g}"],
                "textposition": "top right",
                "textfont": {"color": "@ink", "size": 12},
                "customdata": [interval_text(mean, low, high)],
                "hovertemplate": "%{customdata}<extra>" + escape(label) + "</extra>",
                "marker": {
                    "size": 10,
                    "symbol": "line-ew",
                    "line": {"width": 3, "color": colour(index)},
                    "color": colour(index),
                },
                **error,
                **shared,
            }
        )
    spread = [value for by_seed in values.values() for value in by_seed.values()]
    ends = [end for group in numbers.values() for end in (group["low"], group["high"]) if end is not None]
    layout = {
        "height": height,
        "showlegend": False,
        "xaxis": {
            "tickvals": list(places.values()),
            "ticktext": [wrapped(label) for label in places],
            "showgrid": False,
            "range": [-0.45, len(places) - 0.35],
            "zeroline": False,
            "fixedrange": True,
        },
        "yaxis": axis(title, **_range(spread, False, ends)),
    }
    return {"data": traces, "layout": layout}, numbers


def interval_text(mean: float, low: float | None, high: float | None) -> str:
    """Write a mean with its interval: 3.1 [1.2, 5.0]."""
    return f"{mean:.4g}" if low is None or high is None else f"{mean:.4g} [{low:.4g}, {high:.4g}]"


def wrapped(label: str, width: int = 14) -> str:
    """Break a long label at its spaces for a tick."""
    rows = [""]
    for word in label.split(" "):
        if rows[-1] and len(rows[-1]) + 1 + len(word) > width:
            rows.append(word)
        else:
            rows[-1] = f"{rows[-1]} {word}".strip()
    return "<br>".join(escape(row) for row in rows)


def _drawn(point: tuple[float, float]) -> bool:
    return all(isinstance(value, int | float) and math.isfinite(value) for value in point)


def _range(values: Sequence[float], logarithmic: bool, ends: Sequence[float] = ()) -> dict[str, Any]:
    """The range of an axis follows the seeds; intervals of few seeds can be wide, and may leave it at up to one spread each side."""
    drawn = [value for value in values if math.isfinite(value)]
    if not drawn:
        return {}
    low, high = min(drawn), max(drawn)
    if logarithmic:
        low, high = math.log10(low), math.log10(high)
        margin = 0.06 * (high - low) or 0.1
        return {"range": [low - margin, high + margin], **log_ticks(10 ** (low - margin), 10 ** (high + margin))}
    spread = (high - low) or abs(high) * 0.1 or 1.0
    low = max(min([low, *ends]), low - spread)
    high = min(max([high, *ends]), high + spread)
    margin = 0.08 * ((high - low) or spread)
    return {"range": [low - margin, high + margin]}
