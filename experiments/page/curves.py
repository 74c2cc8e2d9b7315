"""What was logged while training and at its end: curves over steps, noise and sampling steps, and one dot per seed."""

from experiments.page import closed_form
from experiments.page.charts import Drawn, axis, chart, dots, lines, side_by_side, slug, thinned
from experiments.page.groups import Comparison, seed
from experiments.page.metrics import metrics_of

_GUESS = (
    "{}: at the end of this schedule almost no signal is left, and predicted noise says almost nothing of the image there. The first "
    "step starts from a guess (the first column of “How noise leaves”), and the fewer the steps, the more of it stays. This is the "
    "schedule together with eps prediction; v prediction has no such step."
)


def draw_curves(comparison: Comparison, keys: list[str]) -> Drawn | None:
    html, numbers = "", {}
    names = {metric.key: metric.label for metric in metrics_of(comparison)}
    for key in keys:
        curves = {
            group.label: {seed(run): thinned(run.scalars[key]) for run in group.runs if key in run.scalars} for group in comparison.groups
        }
        figure, drawn = lines(curves, axis("step"), axis("", log=key.endswith("loss")))
        if drawn:
            html += chart(slug("curve", key), figure, names.get(key, key))
            numbers[key] = drawn
    return Drawn(side_by_side(html), numbers) if html else None


def draw_metrics(comparison: Comparison, keys: list[str]) -> Drawn | None:
    html, numbers = "", {}
    for metric in metrics_of(comparison):
        figure, drawn = dots({group.label: group.values(metric.key) for group in comparison.groups}, "")
        if drawn:
            html += chart(slug("metric", metric.key), figure, metric.label, _yardstick(comparison, metric.key))
            numbers[metric.key] = {"better": metric.better, "groups": drawn}
    return Drawn(side_by_side(html), numbers) if html else None


def _yardstick(comparison: Comparison, key: str) -> str:
    """Say which value real images reach, where the runs have measured that."""
    split, _, measure = key.partition("/")
    floors = [floor for run in comparison.runs if (floor := run.last(f"{split}/real_floor_{measure}")) is not None]
    if floors:
        return f"Real images against other real images: {sum(floors) / len(floors):.4g}."
    if measure == "bits_per_dim":
        return _bits_by_term(comparison, f"{split}/bits_by_term/")
    judged = {
        row[1]
        for run in comparison.runs
        if (by_class := run.tables.get(f"{key}_by_class"))
        for row in by_class.rows
        if row[0] == "judge on real images"
    }
    return f"On real images the judge is right in {min(judged):.1%} of cases." if judged else ""


def _bits_by_term(comparison: Comparison, prefix: str) -> str:
    """Say where the bits go, group by group: part of a difference can be the width of the last step, which the schedule sets."""
    shares = []
    for group in comparison.groups:
        terms = {key: group.values(key).values() for run in group.runs for key in run.scalars if key.startswith(prefix)}
        means = [f"{key.removeprefix(prefix)} {sum(values) / len(values):.2f}" for key, values in terms.items() if values]
        if means:
            shares.append(f"{group.label}: {' + '.join(means)}")
    if not shares:
        return ""
    chain = " The decoder is the last step; its width is set by the schedule, not learned." if "decoder" in shares[0] else ""
    return f"Where the bits go, {'; '.join(shares)}.{chain}"


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
            moved[group.label] = {
                number: sorted((snr[t], loss) for t, loss in points if t in snr) for number, points in curves[group.label].items()
            }
    if len(moved) == len(comparison.groups):
        reached = [[snr for points in by_seed.values() for snr, _ in points] for by_seed in moved.values()]
        shared = [
            min(map(max, reached)) + 0.2,
            max(map(min, reached)) - 0.2,
        ]  # where every schedule goes, from clean to noise
        figure, drawn = lines(moved, axis("log₁₀ signal-to-noise ratio", range=shared), axis("", log=True))
        html += chart("loss-by-snr", figure, "The same, at equal noise", "From clean (left) to noise (right).")
        numbers["by log10 SNR"] = drawn
    return Drawn(side_by_side(html), numbers)


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
            html += chart(
                slug("steps", key),
                figure,
                "Fréchet distance, " + ("by number of steps" if steps else "by skipped share"),
            )
            numbers[key] = drawn
    guessed = closed_form.first_step_is_a_guess(comparison)
    note = f'<p class="note">{_GUESS.format(", ".join(guessed))}</p>' if guessed else ""
    return Drawn(side_by_side(html) + note, numbers) if html else None


def _table_curves(comparison: Comparison, key: str) -> dict[str, dict[int, list[tuple[float, float]]]]:
    """{group: {seed: [(first column, last column)]}} of a logged table."""
    return {
        group.label: {
            seed(run): sorted(
                (float(row[0]), float(row[-1]))
                for row in run.tables[key].rows
                if all(isinstance(cell, int | float) for cell in (row[0], row[-1]))
            )
            for run in group.runs
            if key in run.tables
        }
        for group in comparison.groups
    }
