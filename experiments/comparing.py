"""`practicum compare FILE`: a sweep, then the page that compares its trials."""

from pathlib import Path

from experiments.catalogue import Arguments
from experiments.dashboard import write_page
from experiments.runs import load_runs
from experiments.sweeps import Sweep, run_trials


def main(arguments: list[str]) -> int:
    """The verb `compare`; the exit code is 1 if a trial failed."""
    parser = Arguments(prog="practicum compare", description=__doc__)
    parser.add_argument("file", metavar="FILE", help="a sweep of `practicum list`, or a path to a W&B sweep YAML")
    parser.add_argument("--workers", type=int, help="trials at a time (default: one per core)")
    parser.add_argument("--out", type=Path, help="folder of the sweep and of the page (default: runs/SWEEP)")
    asked = parser.parse_args(arguments)
    folder, attempts = run_trials(Sweep.read(asked.file), workers=asked.workers, out=asked.out)
    finished = [folder / attempt.folder for attempt in attempts if attempt.state == "finished"]
    if finished:
        print(f"page: {write_page(load_runs(finished), folder / 'report')}")
    return 0 if len(finished) == len(attempts) else 1
