"""Grids and strips of images, side by side for one seed at a time, inside the page."""

import base64
from html import escape
from pathlib import Path

from PIL import Image

from experiments.page.charts import Drawn
from experiments.page.groups import Comparison, Group
from experiments.runs import Run

MAX_SEEDS_SHOWN = 8  # pictures are inside the page: those of further seeds stay in their run folders


def draw_pictures(comparison: Comparison, keys: list[str]) -> Drawn | None:
    """Show the last picture of each group, for one seed at a time: a seed that all groups have, if there is one.

    Pictures are side by side; strips (more than twice as wide as high) are one below the other, so that their columns can be compared.
    """
    html, numbers = "", {}
    for key in keys:
        having = {
            number: [group for group in comparison.groups if (run := group.run_of(number)) and _is_there(run, key)]
            for number in comparison.seeds
        }
        having = {number: groups for number, groups in having.items() if groups}
        if not having:
            continue
        most = max(len(groups) for groups in having.values())
        shown = sorted(having, key=lambda number: len(having[number]) < most)[:MAX_SEEDS_SHOWN]
        contents = {number: [_run_of(group, number).media[key].read_bytes() for group in having[number]] for number in shown}
        if all(content == contents[shown[0]] for content in contents.values()):
            shown = shown[:1]  # what depends on the setting alone, as the way into noise does
        with Image.open(_run_of(having[shown[0]][0], shown[0]).media[key]) as first:
            layout = "strips" if first.width > 2 * first.height else "grids"
        buttons = "".join(
            f'<button type="button" data-show="{number}" aria-pressed="{str(number == shown[0]).lower()}">{number}</button>'
            for number in shown
        )
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
