"""The one list of panels: what a page (or a W&B workspace) shows of a comparison, in the order in which a person meets it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from experiments.page.charts import Drawn
from experiments.page.curves import draw_curves, draw_fewer_steps, draw_loss_by_noise, draw_metrics
from experiments.page.groups import Comparison
from experiments.page.metrics import metrics_of
from experiments.page.pictures import draw_pictures
from experiments.page.tables import draw_measured, draw_runs
from experiments.page.theory import draw_exact, draw_noising
from experiments.page.verdicts import draw_verdicts


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
        return [name for name in names if any(name in kind for run in comparison.runs for kind in (run.scalars, run.tables, run.media))]

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


PANELS: tuple[Panel, ...] = (
    Panel(
        "verdict",
        "What the evidence allows to say",
        "Groups are compared seed by seed, since runs of one seed share initial weights, order of the data and noise "
        "wherever their settings agree. "
        "Each dot is one seed’s difference; the bar is their mean with its 95 % interval. A bar that crosses zero shows no difference.",
        metric_keys,
        draw_verdicts,
        "text",
        "a metric (val/fd_…, val/kid_…, val/bits_per_dim, val/class_accuracy)",
    ),
    Panel(
        "samples",
        "Samples, from the same noise",
        "Picture by picture the grids began from the same random numbers; what differs is the setting under comparison. "
        "Nothing was picked: these are the first samples drawn.",
        keys_named("val/samples"),
        draw_pictures,
        "media",
        "val/samples",
    ),
    Panel(
        "runs",
        "The runs",
        "Only the settings that differ have a column. A click on a heading sorts.",
        metric_keys,
        draw_runs,
        "runs",
    ),
    Panel(
        "metrics",
        "Metrics at the end of training",
        "One dot per seed, a thin line between runs of the same seed; beside them the mean with its 95 % interval over seeds. "
        "Compare the lines rather than the intervals: seeds are paired.",
        metric_keys,
        draw_metrics,
        "bars",
        "a metric",
    ),
    Panel(
        "curves",
        "While training",
        "Mean over seeds with its 95 % interval; one thin line per seed.",
        curve_keys,
        draw_curves,
        "lines",
        "train/loss at two steps or more",
    ),
    Panel(
        "noising",
        "How noise arrives",
        "The same images at ever later times of the noise clock, and the closed form behind them.",
        keys_named("val/noising"),
        draw_noising,
        "media",
        "val/noising",
    ),
    Panel(
        "denoising",
        "How noise leaves",
        "What the network takes the clean image for, at moments of one sampling from noise (left) to picture (right).",
        keys_named("val/denoising"),
        draw_pictures,
        "media",
        "val/denoising",
    ),
    Panel(
        "loss-by-noise",
        "Error by noise level",
        "Two schedules put different noise at the same clock time, so the first picture compares unlike tasks; "
        "the second compares them at equal noise.",
        keys_named("val/loss_by_noise"),
        draw_loss_by_noise,
        "table",
        "val/loss_by_noise",
    ),
    Panel(
        "fewer-steps",
        "Fewer steps",
        "The same networks, sampled in fewer steps, or with the noisiest part of the chain left out.",
        keys_named("val/fd_by_steps", "val/fd_by_skipped"),
        draw_fewer_steps,
        "table",
        "val/fd_by_steps or val/fd_by_skipped",
    ),
    Panel(
        "exact",
        "The exact denoiser",
        "No network here. For data drawn from a Gaussian of standard deviation 0.5 the best denoiser is known in closed form, so "
        "whatever spread the samples lack is the fault of schedule, sampler and number of steps. "
        "Each chart shows how far the samples’ standard deviation is from 0.5; lower is better. "
        "Dotted: the other published schedules. A line that levels off belongs to a schedule whose cleanest step still holds noise.",
        lambda comparison: [],
        draw_exact,
        "text",
        "a diffusion schedule in its config",
    ),
    Panel(
        "measured",
        "How this was measured",
        "What each metric says of itself.",
        declared_keys,
        draw_measured,
        "text",
    ),
)


def draw_panels(comparison: Comparison) -> tuple[list[tuple[Panel, Drawn]], list[Panel]]:
    """Draw every panel that the runs have the data for; returns those drawn and those left out."""
    results = [(panel, panel.draw(comparison, panel.keys(comparison))) for panel in PANELS]
    return [(panel, drawn) for panel, drawn in results if drawn is not None], [panel for panel, drawn in results if drawn is None]
