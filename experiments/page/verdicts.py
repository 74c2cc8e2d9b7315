"""The first panel: for each metric one sentence that says what the seeds allow, and a picture of their differences."""

import math
from html import escape
from typing import Any

from experiments.page.charts import Drawn
from experiments.page.groups import Comparison, Group
from experiments.page.metrics import Metric, metrics_of
from experiments.statistics import Comparison as Difference
from experiments.statistics import against_reference, comparable, interval, verdict

WIDTH, HEIGHT = 300, 62
MAX_ROWS = 3  # more comparisons of one metric than these: those that show nothing are folded away


def verdicts(comparison: Comparison) -> list[dict[str, Any]]:
    """Return per metric, and per group against the first one, a sentence and the numbers behind it."""
    found = []
    for metric in metrics_of(comparison):
        values = {group.label: group.values(metric.key) for group in comparison.groups}
        values = {label: by_seed for label, by_seed in values.items() if by_seed}
        if len(values) < 2:
            found += [_single(metric, label if len(comparison.groups) > 1 else "", by_seed) for label, by_seed in values.items()]
            continue
        reference = next(iter(values))
        about = {
            f"{group.label}, seed {run.seed}": run.about.get(metric.key, {})
            for group in comparison.groups
            for run in group.runs
            if run.last(metric.key) is not None
        }
        if refusal := comparable(list(about.values()), list(about)):
            found.append({"metric": metric, "sentence": refusal})
            continue
        try:
            differences = against_reference(values, reference)
        except ValueError as error:
            found.append({"metric": metric, "sentence": f"not ranked: {error}"})
            continue
        for label, difference in differences.items():
            sentence = verdict(label, reference, _noun(metric), difference, metric.better == "lower")
            seeds = {number: value - values[reference][number] for number, value in values[label].items() if number in values[reference]}
            found.append(
                {
                    "metric": metric,
                    "sentence": sentence,
                    "group": label,
                    "reference": reference,
                    "difference": difference,
                    "seeds": seeds,
                }
            )
    return found


def draw_verdicts(comparison: Comparison, keys: list[str]) -> Drawn | None:
    """Draw the verdicts as a list; None where no metric was logged."""
    html = ""
    for metric in metrics_of(comparison):
        items = [item for item in verdicts(comparison) if item["metric"] == metric]
        alike = [item for item in items if "difference" in item and not item["difference"].shown]
        folded = alike if len(items) > MAX_ROWS else []
        rows = [_row(item, comparison.groups) for item in items if item not in folded]
        if folded:
            rest = "".join(f"<li>{_row(item, comparison.groups)}</li>" for item in folded)
            rows.append(
                f"<details><summary>No difference from {escape(folded[0]['reference'])} shown for {len(folded)} of {len(items)} groups"
                f"</summary><ul class=verdicts>{rest}</ul></details>"
            )
        html += "".join(
            f'<li><p class="eyebrow">{escape(metric.name)}</p>{row}</li>' if row is rows[0] else f"<li>{row}</li>" for row in rows
        )
    if not html:
        return None
    numbers = _numbers(comparison)
    text = "\n".join(f"- **{item['metric']}**: {item['sentence']}" for item in numbers)
    return Drawn(f'{_confounded(comparison)}<ul class="verdicts">{html}</ul>', numbers, text)


def _row(item: dict[str, Any], groups: tuple[Group, ...]) -> str:
    picture = _picture(item, groups) if "difference" in item else ""
    return f'<div class="verdict"><p class="sentence">{_sentence(item["sentence"], groups)}.</p>{picture}</div>'


def _numbers(comparison: Comparison) -> list[dict[str, Any]]:
    """Return the verdicts as plain numbers and text."""
    plain = []
    for item in verdicts(comparison):
        numbers: dict[str, Any] = {"metric": item["metric"].key, "sentence": item["sentence"]}
        if "difference" in item:
            difference: Difference = item["difference"]
            numbers |= {
                "group": item["group"],
                "reference": item["reference"],
                "mean": difference.mean,
                "low": difference.low,
                "high": difference.high,
                "p": difference.p,
                "seeds": {str(k): v for k, v in item["seeds"].items()},
            }
        plain.append(numbers)
    return plain


def _single(metric: Metric, label: str, by_seed: dict[int, float]) -> dict[str, Any]:
    found = interval(list(by_seed.values()))
    said = f"{found.mean:.4g} [{found.low:.4g}, {found.high:.4g}]" if len(by_seed) > 1 else f"{found.mean:.4g}"
    seeds = f"{len(by_seed)} seed{'s' if len(by_seed) > 1 else ''} ({', '.join(map(str, by_seed))})"
    return {
        "metric": metric,
        "sentence": f"{label + ' alone: ' if label else ''}{said} with {seeds}; nothing to compare it with",
    }


def _sentence(sentence: str, groups: tuple[Group, ...]) -> str:
    """A sentence in HTML, the group that it begins with in its colour; other first words begin with a capital."""
    for group in sorted(groups, key=lambda group: -len(group.label)):
        if sentence.startswith(f"{group.label} "):
            return f'<b style="color:var(--{group.index % 8})">{escape(group.label)}</b>{escape(sentence[len(group.label) :])}'
    return escape(sentence[:1].upper() + sentence[1:])


def _confounded(comparison: Comparison) -> str:
    """Warn where a group and the reference differ in more than one setting, so that no one setting can be held responsible."""
    reference, *others = comparison.groups
    most = max(
        ([name for name in comparison.differing if group.settings.get(name) != reference.settings.get(name)] for group in others),
        key=len,
        default=[],
    )
    if len(most) < 2:
        return ""
    return (
        f'<p class="missing">Some groups differ from {escape(reference.label)} in more than one setting ({escape(", ".join(most))}): '
        "a difference between them cannot be put down to one of these.</p>"
    )


def _noun(metric: Metric) -> str:
    return {"Fréchet distance": "FD"}.get(metric.name.split(",")[0], metric.name.split(",")[0])


def _picture(item: dict[str, Any], groups: tuple[Group, ...]) -> str:
    """Draw each seed's difference as a dot, their mean and its interval as a line, and where no difference lies."""
    difference: Difference = item["difference"]
    points = list(item["seeds"].values())
    reach = max((abs(point) for point in points), default=0.0) or 1.0
    ends = [end for end in (difference.low, difference.high) if math.isfinite(end)]
    reach = 1.1 * max(reach, min(max((abs(end) for end in ends), default=0.0), 3 * reach))
    index = {group.label: group.index for group in groups}
    lower, higher = item["group"], item["reference"]
    if item["metric"].better == "higher":
        lower, higher = higher, lower
    winner = f"var(--{index[lower if difference.mean < 0 else higher] % 8})" if difference.shown else "var(--muted)"

    def x(value: float) -> float:
        return WIDTH / 2 + max(-1.0, min(1.0, value / reach)) * WIDTH / 2

    marks = "".join(
        f'<circle cx="{x(point):.1f}" cy="22" r="4" fill="{winner}" fill-opacity=".55"><title>seed {number}: {point:+.4g}</title></circle>'
        for number, point in item["seeds"].items()
    )
    if ends:
        marks += (
            f'<path d="M{x(difference.low):.1f} 36H{x(difference.high):.1f}" stroke="{winner}" stroke-width="2.5"/>'
            f'<path d="M{x(difference.mean):.1f} 31V41" stroke="{winner}" stroke-width="2.5"/>'
        )
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(item["group"])} minus {escape(item["reference"])}, by seed">'
        f'<path d="M{WIDTH / 2} 8V46" stroke="var(--muted)" stroke-width="1" stroke-dasharray="2 3"/>{marks}'
        f'<text x="{WIDTH / 2}" y="60" text-anchor="middle">0</text>'
        f'<text x="0" y="60">← {escape(_cut(lower))} better</text>'
        f'<text x="{WIDTH}" y="60" text-anchor="end">{escape(_cut(higher))} better →</text></svg>'
    )


def _cut(label: str, length: int = 16) -> str:
    return label if len(label) <= length else label[: length - 1] + "…"
