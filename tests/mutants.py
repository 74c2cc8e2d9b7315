"""`make mutants`: faults planted in practicum's own code, one at a time, each of which a test must catch.

`python -m tests.mutants [NAME ...]` copies the tree once, plants a fault in the copy, runs one test there, and takes the fault out
again. Exit code 1 if a test passes in spite of its fault, or if the text to be replaced is not there any more.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
LEFT_OUT = shutil.ignore_patterns(".venv", ".git", "runs", "*_cache", "__pycache__", "*.egg-info", "pictures")


class Mutant(NamedTuple):
    """A fault: in `file` the text `right`, which stands there once, becomes `wrong`; `test` must fail then."""

    name: str
    file: str
    right: str
    wrong: str
    test: str


RESUMED = "tests/experiments/test_resume.py::test_a_run_goes_on_from_its_checkpoints"
MUTANTS = [
    Mutant("random state dropped", "callbacks/resumable.py", 'put_back(trainer, self._restored["loops"])\n            set_random_states',
           'put_back(trainer, self._restored["loops"])\n            (lambda states: None)', f"{RESUMED}[ddpm_digits_cosine-4]"),
    Mutant("EMA's count dropped", "callbacks/ema.py", 'return {"num_updates": self.num_updates,', 'return {"num_updates": 0,',
           f"{RESUMED}[ddpm_digits_cosine-4]"),
    Mutant("loader begins its epoch anew", "datamodules/order.py", "first = self.begin[1] if", "first = 0 if", f"{RESUMED}[classifier-5]"),
    Mutant("counters as Lightning restarts them", "callbacks/resumable.py", "    epochs.load_state_dict(deepcopy(loops))\n", "",
           f"{RESUMED}[classifier-5]"),
    Mutant("log lines written twice", "experiments/record.py", 'file.truncate(position["bytes"])', "pass", f"{RESUMED}[classifier-5]"),
    Mutant("interrupted validation not run again", "callbacks/resumable.py", "epochs.epoch_loop.on_advance_end(epochs._data_fetcher)",
           "pass", "tests/experiments/test_resume.py::test_a_signal_in_every_phase[validation_batch_end]"),
    Mutant("signal swallowed", "callbacks/resumable.py",
           "self.save(trainer, self.place(trainer))\n            self.signals.check()", "self.save(trainer, self.place(trainer))",
           "tests/experiments/test_resume.py::test_a_signal_in_every_phase[train_batch_end]"),
    Mutant("cosine off by one step", "lightning_modules/diffusion/schedules.py",
           "torch.cos((t + self.offset)", "torch.cos((t + 1 / self.num_steps + self.offset)",
           "tests/lightning_modules/diffusion/test_schedules.py::test_golden_alpha_bars"),
    Mutant("DDIM forgets the noise it adds", "lightning_modules/diffusion/samplers.py", "math.sqrt(max(0.0, sigma_s**2 - up**2)) / sigma_t",
           "sigma_s / sigma_t", "tests/lightning_modules/diffusion/test_samplers.py::test_golden_spreads_of_ddim"),
    Mutant("penalty without its one", "lightning_modules/losses/adversarial.py", "(gradient.flatten(1).norm(dim=1) - 1).square()",
           "gradient.flatten(1).norm(dim=1).square()",
           "tests/lightning_modules/losses/test_adversarial.py::test_penalty_of_a_linear_critic"),
    Mutant("CLIP's loss along one axis", "lightning_modules/losses/contrastive.py", "F.cross_entropy(logits.T, of_text)",
           "F.cross_entropy(logits, of_image)", "tests/lightning_modules/losses/test_contrastive.py::test_values_of_the_slow_versions"),
    Mutant("SigLIP's bias with the paper's sign", "lightning_modules/losses/contrastive.py", "logits = scale * x @ y.T + bias",
           "logits = scale * x @ y.T - bias", "tests/lightning_modules/losses/test_contrastive.py::test_initial_losses_of_256_pairs"),
    Mutant("Fréchet distance without its means", "callbacks/frechet.py", "value = (one.mean - other.mean).square().sum() + one.trace",
           "value = one.trace", "tests/parity/test_frechet.py"),
    Mutant("EMA one update late", "callbacks/ema.py", "torch._foreach_lerp_(self._averages, self._weights, 1 - decay)",
           "torch._foreach_lerp_(self._averages, self._weights, decay)",
           "tests/callbacks/test_ema.py::test_an_evaluator_sees_the_average_in_either_order"),
    Mutant("two trainings of one run", "experiments/runs.py", "        lock.acquire()\n", "        pass\n",
           "tests/experiments/test_resume.py::test_two_processes_do_not_train_one_run"),
    Mutant("a changed config goes on", "experiments/training.py", "        if not is_below(key, allowed):\n            raise Mistake(",
           "        if False:\n            raise Mistake(", "tests/experiments/test_resume.py::test_what_has_changed_is_named"),
    Mutant("other pictures go on", "experiments/training.py", "    if module.fingerprint != former:\n", "    if False:\n",
           "tests/experiments/test_resume.py::test_other_data_are_refused"),
]


def survives(mutant: Mutant, copy: Path) -> str:
    """What the table says of a fault: "caught", or why not."""
    file = copy / mutant.file
    text = file.read_text(encoding="utf-8")
    if text.count(mutant.right) != 1:
        return f"NOT PLANTED: the text stands {text.count(mutant.right)} times in {mutant.file}"
    file.write_text(text.replace(mutant.right, mutant.wrong), encoding="utf-8")
    try:
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", mutant.test]
        surroundings = os.environ | {"PYTHONPATH": str(copy), "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
        run = subprocess.run(command, cwd=copy, capture_output=True, text=True, env=surroundings)
    finally:
        file.write_text(text, encoding="utf-8")
    return {0: "NOT CAUGHT", 1: "caught"}.get(run.returncode, f"NO TEST RAN: {run.stdout.strip().splitlines()[-1:]}")


def main(names: list[str]) -> int:
    chosen = [mutant for mutant in MUTANTS if not names or mutant.name in names]
    failures = 0
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "practicum"
        shutil.copytree(ROOT, copy, ignore=LEFT_OUT)
        for mutant in chosen:
            outcome = survives(mutant, copy)
            failures += outcome != "caught"
            print(f"{mutant.name:44}  {outcome:10}  {mutant.test}", flush=True)
    print(f"{len(chosen) - failures} of {len(chosen)} planted faults caught")
    return min(failures, 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
