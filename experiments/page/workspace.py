"""The panel list as a Weights & Biases workspace: its JSON is built without a network, and saved to W&B where there is one."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.page.groups import Comparison
from experiments.page.panels import Drawn, Panel

LIGHT = (
    "#0072b2",
    "#d55e00",
    "#009e73",
    "#b0558f",
    "#3fa0d8",
    "#c28a00",
    "#6b6ecf",
    "#5f6770",
)  # the page's colours, as in style.css
NUM_COLUMNS = 24  # W&B's grid


def publish(comparison: Comparison, drawn: Sequence[tuple[Panel, Drawn]], out: Path) -> str:
    """Write workspace.json, save the workspace to W&B if it is reachable with a key, and return one line that says what was done."""
    from experiments.wandb_mode import settle_wandb_mode

    mode, why = settle_wandb_mode()
    entity = os.environ.get("WANDB_ENTITY", "")
    if mode == "online" and not entity:
        import wandb

        entity = wandb.Api().default_entity or ""
    made = workspace(comparison, drawn, entity, os.environ.get("WANDB_PROJECT", "practicum"))
    path = out / "workspace.json"
    path.write_text(json.dumps(as_json(made), indent=1) + "\n", encoding="utf-8")
    if mode != "online":
        return f"workspace: {path} ({why}; not saved to W&B)"
    return f"workspace: {made.save().url}"


def workspace(comparison: Comparison, drawn: Sequence[tuple[Panel, Drawn]], entity: str, project: str) -> Any:
    """Return the workspace: a section for each panel drawn, restricted to the comparison's runs and grouped as on the page."""
    import wandb_workspaces.workspaces as ws

    sections = [
        ws.Section(name=panel.title, panels=boards, is_open=True, layout_settings=ws.SectionLayoutSettings(columns=2, rows=2))
        for panel, result in drawn
        if (boards := _boards(panel, result, panel.keys(comparison)))
    ]
    colours: dict[object, object] = (
        {
            ws.GroupPath(*(str(_at(group.runs[0].config, path)) for path in comparison.paths)): LIGHT[group.index % len(LIGHT)]
            for group in comparison.groups
        }
        if comparison.paths
        else {}
    )
    return ws.Workspace(
        entity=entity,
        project=project,
        name=comparison.title,
        sections=sections,
        auto_generate_panels=False,
        runset_settings=ws.RunsetSettings(
            filters=[ws.Metric("ID").isin([run.id for run in comparison.runs])],
            groupby=[ws.Config(path) for path in comparison.paths],
            group_colors=colours,
        ),
    )


def as_json(made: Any) -> dict[str, Any]:
    """Return what W&B would be sent, as plain values."""
    return dict(json.loads(made._to_model().model_dump_json(by_alias=True, exclude_none=True)))


def _boards(panel: Panel, result: Drawn, keys: list[str]) -> list[Any]:
    import wandb_workspaces.reports.v2 as wr

    half, full = wr.Layout(w=NUM_COLUMNS // 2, h=9), wr.Layout(w=NUM_COLUMNS, h=12)
    if panel.board == "text":
        return [wr.MarkdownPanel(markdown=f"{panel.caption}\n\n{result.text}", layout=full)]
    if panel.board == "runs":
        return [wr.RunComparer(diff_only="split", layout=full)]
    if panel.board == "media":
        return [wr.MediaBrowser(title=panel.title, media_keys=keys, num_columns=2, layout=full)] if keys else []
    if panel.board == "lines":
        return [
            wr.LinePlot(
                title=key,
                x="Step",
                y=[key],
                log_y=key.endswith("loss"),
                groupby_aggfunc="mean",
                groupby_rangefunc="stderr",
                layout=half,
            )
            for key in keys
        ]
    if panel.board == "bars":
        return [wr.BarPlot(title=key, metrics=[key], groupby_aggfunc="mean", groupby_rangefunc="stderr", layout=half) for key in keys]
    return [wr.WeavePanelSummaryTable(table_name=key, layout=half) for key in keys]


def _at(config: Any, path: str) -> Any:
    for part in path.split("."):
        config = config.get(part) if isinstance(config, dict) else None
    return config
