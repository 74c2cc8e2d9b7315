"""`make bench`: every benchmark of this folder, and one table."""

import importlib
from pathlib import Path

VERDICT = {True: "holds", False: "MISSED", None: "void (the machine was not steady)"}


def main() -> None:
    """Runs every bench_*.py and prints what it measured."""
    rows = [row for path in sorted(Path(__file__).parent.glob("bench_*.py"))
            for row in importlib.import_module(f"tests.benchmarks.{path.stem}").measure()]
    width = max(len(row["what"]) for row in rows)
    print(f"{'what':{width}}  {'ours':>10}  {'theirs':>10}  {'ratio':>7}  {'target':>7}")
    for row in rows:
        print(f"{row['what']:{width}}  {row['ours']:10.4g}  {row['theirs']:10.4g}  {row['ratio']:7.3g}  {row['target']:7.3g}  "
              f"{VERDICT[row['holds']]}")


main()
