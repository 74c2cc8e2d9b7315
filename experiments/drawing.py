"""`practicum figure NAME`: a figure of the lectures, drawn from runs; what is missing is trained first.

A figure is a file of experiments/figures: a docstring, `RUNS = {key: experiment}` (the runs that it is drawn from; "sweep:NAME" is
the folder of a sweep) and `draw(runs: dict[str, Path]) -> Drawn`. Beside the PNG and the SVG stand its numbers and the ids of its
runs as JSON.
"""

import html
import importlib
import json
import sys
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

from experiments.catalogue import Arguments, Entry, Mistake, entries, find
from experiments.runs import find_run, runs_root, scrub, write_atomically


class Drawn(NamedTuple):
    """A matplotlib figure and the numbers that it shows, as JSON holds them."""

    figure: Any
    numbers: dict[str, Any]


def main(arguments: list[str]) -> int:
    """The verb `figure`."""
    parser = Arguments(prog="practicum figure", description=__doc__.split("\n")[0])
    parser.add_argument("name", help="a figure of `practicum list`, or all")
    parser.add_argument("--run", action="append", default=[], metavar="KEY=RUN",
                        help="draw from this run, in place of the one that the figure would train; may be given several times")
    parser.add_argument("--out", type=Path, default=Path("figures"), help="folder of the pictures (default: figures)")
    asked = parser.parse_args(arguments)
    given = dict(read_given(item) for item in asked.run)
    if asked.name != "all":
        drawn = find("figure", asked.name)
        print(draw(Entry(drawn.stem, drawn), given, asked.out))
        return 0
    if given:
        raise Mistake("--run goes with one figure, not with all")
    figures = entries("figure")
    for number, entry in enumerate(figures, start=1):
        print(f"{number} of {len(figures)}: {entry.name}", file=sys.stderr)
        draw(entry, {}, asked.out)
    print(write_gallery(asked.out))
    return 0


def read_given(item: str) -> tuple[str, str]:
    key, equals, run = item.partition("=")
    if not equals:
        raise Mistake(f"--run {item}: write KEY=RUN, for instance --run model=runs/cvae_mnist/latest")
    return key, run


def draw(entry: Entry, given: dict[str, str], out: Path) -> Path:
    """Draws a figure into `out`: NAME.png, NAME.svg and NAME.json. Returns the PNG."""
    module = importlib.import_module(f"experiments.figures.{entry.name}")
    wanted: dict[str, str] = getattr(module, "RUNS", {})
    for key in given:
        if key not in wanted:
            keys = ", ".join(wanted) or "none"
            raise Mistake(f"--run {key}: {entry.name} draws from no such run (its keys: {keys})")
    runs = {key: sought(given.get(key), experiment, entry.name) for key, experiment in wanted.items()}
    figure, numbers = module.draw(runs)
    out.mkdir(parents=True, exist_ok=True)
    ids = {key: f"{folder.parent.name}/{folder.name}" for key, folder in runs.items()}
    about = {"figure": entry.name, "title": entry.summary, "runs": ids, "date": date.today().isoformat(), "numbers": numbers}
    figure.savefig(out / f"{entry.name}.png", dpi=200, metadata={"Description": json.dumps({"runs": ids})})
    figure.savefig(out / f"{entry.name}.svg", metadata={"Date": None, "Description": json.dumps({"runs": ids})})
    write_atomically(out / f"{entry.name}.json", json.dumps(about, indent=1))
    return out / f"{entry.name}.png"


def sought(given: str | None, wanted: str, figure: str) -> Path:
    """The folder that is drawn from: a run, or a sweep where "sweep:NAME" is wanted; the one given, else trained where it is missing."""
    kind, _, name = wanted.rpartition(":")
    if kind != "sweep":
        return find_run(given) if given else trained(wanted, figure)
    if given is None:
        return swept(name)
    if not (Path(given) / "trials.jsonl").is_file():
        raise Mistake(f"--run {given}: no folder of a sweep (it holds no trials.jsonl); give that of `practicum sweep {name}`")
    return Path(given).resolve()


def swept(name: str) -> Path:
    """The folder of a sweep whose trials have all finished; those that have not are run now, whatever YAML they are made of."""
    from experiments.sweeps import Sweep, earlier_trials, run_trials

    sweep, study = Sweep.read(name), Sweep.read(name).study()
    folder = (runs_root() / sweep.name).resolve()
    finished = {json.dumps(json.loads(key)[0]) for key, trial in earlier_trials(folder).items() if trial["state"] == "finished"}
    trials = [study.ask() for _ in range(sweep.num_trials)]
    asked = [scrub({key: parameter.suggest(trial, key) for key, parameter in sweep.parameters.items()}) for trial in trials]
    if all(json.dumps(parameters, sort_keys=True) in finished for parameters in asked):
        return folder
    _, attempts = run_trials(sweep)
    for attempt in attempts:
        if attempt.state == "failed":
            raise Mistake(f"sweep {name}: trial {attempt.number} failed: {attempt.reason}")
    return folder


def trained(experiment: str, figure: str) -> Path:
    """The finished run of an experiment as its YAML describes it; trained now, where there is none."""
    from experiments.request import Request
    from experiments.training import fit_need

    request = Request(figure)
    own = Request(experiment)
    request.data = own.yaml.get("data")
    return fit_need(experiment, request, quiet=False)


def write_gallery(out: Path) -> Path:
    """index.html: every figure in the folder with its title, its runs and its numbers."""
    parts = []
    for path in sorted(out.glob("*.json")):
        about = json.loads(path.read_text())
        runs = ", ".join(about["runs"].values()) or "no run: computed"
        parts.append(f'<figure id="{path.stem}"><a href="{path.stem}.svg"><img src="{path.stem}.png" alt=""></a><figcaption>'
                     f'<b>{html.escape(about["title"])}</b><br>{html.escape(runs)}; {about["date"]}; '
                     f'<a href="{path.name}">numbers</a></figcaption></figure>')
    write_atomically(out / "index.html", PAGE + "\n".join(parts))
    return out / "index.html"


PAGE = """<!doctype html><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>practicum: figures</title>
<style>body{font:16px/1.5 system-ui,sans-serif;max-width:1100px;margin:2rem auto;padding:0 1rem;color:#1a1a1a}
figure{margin:3rem 0}img{width:100%;border:1px solid #d5d8dc}figcaption{color:#5f6368;margin-top:.5rem}b{color:#1a1a1a}</style>
<h1>Figures of the lectures</h1>
"""
