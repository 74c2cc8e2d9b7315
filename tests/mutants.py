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
    Mutant(
        "allowlist: any module but the denied", "callbacks/allowlist.py",
        'import_path_denylist=["*", *DENIED, *gone],',
        "import_path_denylist=[*gone],",
        "tests/experiments/test_allowlist.py::test_hostile_flags",
    ),
    Mutant(
        "allowlist: a report builds what it likes", "callbacks/allowlist.py",
        "    if not next((verdicts[begin] for begin",
        "    if False and not next((verdicts[begin] for begin",
        "tests/experiments/test_allowlist.py::test_a_hostile_run_in_a_report",
    ),
    Mutant(
        "allowlist: trust_remote_code let pass", "callbacks/allowlist.py",
        "elif name in HARMLESS and",
        "elif False and",
        "tests/experiments/test_allowlist.py::test_arguments_that_run_foreign_code",
    ),
    Mutant(
        "YAML: the last of two keys wins", "callbacks/allowlist.py",
        'if kind == "str" and key.value in seen:',
        "if False:",
        "tests/experiments/test_hostile_yaml.py::test_what_a_loader_would_pass_over",
    ),
    Mutant(
        "YAML: an unsafe loader", "callbacks/allowlist.py",
        'SafeLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)',
        "SafeLoader = yaml.UnsafeLoader",
        "tests/experiments/test_allowlist.py::test_hostile_experiments",
    ),
    Mutant(
        "checkpoints may hold code", "callbacks/checkpoints.py",
        'torch.load(file, map_location="cpu", weights_only=True)',
        'torch.load(file, map_location="cpu", weights_only=False)',
        "tests/callbacks/test_hostile_checkpoints.py::test_checkpoints",
    ),
    Mutant(
        "pictures: Pillow's odder errors pass", "datamodules/images.py",
        "except Exception as error:  # Pillow lets ten",
        "except ValueError as error:  # Pillow lets ten",
        "tests/datamodules/test_broken_pictures.py::test_broken_pictures",
    ),
    Mutant(
        "paths of a table lead out", "datamodules/inside.py",
        "not os.path.abspath(path).startswith(homes)",
        "False",
        "tests/datamodules/test_paths_stay_inside.py::test_a_picture_that_lies_elsewhere",
    ),
    Mutant(
        "secrets known by name alone", "experiments/runs.py",
        "SECRET_SHAPE.sub(MASK, value)",
        "value",
        "tests/experiments/test_secrets.py::test_no_secret_in_a_text",
    ),
    Mutant(
        "media of others' files", "experiments/runs.py",
        "if file.resolve().is_relative_to(folder)}",
        "if True}",
        "tests/experiments/test_paths.py::test_media_of_a_run_of_others",
    ),
    Mutant(
        "secrets in the columns of a table", "experiments/record.py",
        "columns=scrub(columns)",
        "columns=columns",
        "tests/experiments/test_secrets.py::test_a_run",
    ),
    Mutant(
        "guard: gradients not read", "callbacks/finite.py",
        "gradients = [] if scaled else [weight.grad",
        "gradients = [] if True else [weight.grad",
        "tests/callbacks/test_finite.py::test_every_planted_nan_stops_training_before_the_update[classifier]",
    ),
    Mutant(
        "guard: loss not read", "callbacks/finite.py",
        "if all_finite([*gradients, *(loss for _, loss in losses)]):",
        "if all_finite(gradients):",
        "tests/callbacks/test_finite.py::test_every_planted_nan_stops_training_before_the_update[classifier]",
    ),
    Mutant(
        "guard: first optimiser only", "callbacks/finite.py",
        "        losses, self._losses = self._losses, []\n        scaled",
        "        losses, self._losses = self._losses, []\n"
        "        if optimizer_number(trainer, optimizer) > 1:\n"
        "            return\n"
        "        scaled",
        "tests/callbacks/test_finite.py::test_every_planted_nan_stops_training_before_the_update[cgan]",
    ),
    Mutant(
        "guard: an overflowed norm stops training", "callbacks/finite.py",
        "            return  # large, but finite: their squares overflowed",
        "            what = 'overflow'",
        "tests/callbacks/test_finite.py::test_large_gradients_are_not_taken_for_infinite_ones",
    ),
    Mutant(
        "guard: moments saved unread", "callbacks/finite.py",
        'moments = dict(tensors_in(checkpoint.get("optimizer_states", [])))',
        "moments = {}",
        "tests/callbacks/test_finite.py::test_weights_that_are_not_finite_are_not_saved[a moment]",
    ),
    Mutant(
        "guard: rows of the next batch", "callbacks/finite.py",
        "order.begin_at(epoch, batch)",
        "order.begin_at(epoch, batch + 1)",
        "tests/callbacks/test_finite.py::test_every_planted_nan_stops_training_before_the_update[classifier]",
    ),
    Mutant(
        "guard: spoilt statistics stay", "callbacks/finite.py",
        "            torch._foreach_copy_(self._buffers, self._kept)",
        "            pass",
        "tests/experiments/test_non_finite.py::test_spoilt_statistics_are_put_back",
    ),
    Mutant(
        "guard: not in fit", "experiments/command_line.py",
        ' FiniteGuard(self.folder / "non_finite.json"),',
        "",
        "tests/experiments/test_non_finite.py::test_a_diverging_training_ends_with_finite_weights",
    ),
    Mutant(
        "cache: no lock", "datamodules/decoded.py",
        'filelock.FileLock(f"{folder}.lock")',
        "warnings.catch_warnings()",
        "tests/datamodules/test_cold_cache.py::test_two_processes_on_a_cold_cache_one_killed",
    ),
    Mutant(
        "W&B: a failed beginning ends the run", "experiments/wandb_mode.py",
        "    except wandb.errors.CommError:",
        "    except ZeroDivisionError:",
        "tests/experiments/test_wandb_faults.py::test_a_run_outlives_its_host[500-run]",
    ),
    Mutant(
        "Hub: error 503 taken for an answer", "datamodules/sources.py",
        "failed = error.code >= 500 or error.code == 429",
        "failed = False",
        "tests/datamodules/test_hub_faults.py::test_a_failing_hub_is_the_cache_or_a_remedy[503-info-answers with error 503]",
    ),
    Mutant(
        "Hub: any cached revision will do", "datamodules/sources.py",
        "if revision is not None and _commit(path, revision) != commits[-1]:",
        "if False:",
        "tests/datamodules/test_hub_faults.py::test_another_revision_than_the_cached_one_is_refused_without_the_hub",
    ),
    Mutant(
        "Hub: patience without end", "datamodules/sources.py",
        "        if seconds > self.left:",
        "        if False:",
        "tests/datamodules/test_hub_faults.py::test_the_library_of_the_hub_sleeps_little",
    ),
    Mutant(
        "checkpoint not brought to the disk", "callbacks/checkpoints.py",
        "            _sync_file(file)\n            _verify(",
        "            file.flush()\n            _verify(",
        "tests/callbacks/test_checkpoints.py::test_whenever_the_power_fails_the_newest_checkpoint_is_whole",
    ),
    Mutant(
        "older ones removed before the new one is on the disk", "callbacks/checkpoints.py",
        "        _sync_folder(folder)      # or a loss of power could keep the removals and not the checkpoint\n",
        "",
        "tests/callbacks/test_checkpoints.py::test_whenever_the_power_fails_the_newest_checkpoint_is_whole",
    ),
    Mutant(
        "digest after the renaming", "callbacks/checkpoints.py",
        "            _write_digests(path, [digest, *former])\n"
        "            _sync_folder(path.parent)      # a checkpoint must not reach the disk before its digest\n"
        "            os.replace(part, path)\n",
        "            os.replace(part, path)\n            _write_digests(path, [digest, *former])\n",
        "tests/callbacks/test_checkpoints.py::test_whenever_the_power_fails_the_newest_checkpoint_is_whole",
    ),
    Mutant(
        "digest of the checkpoint that is replaced forgotten", "callbacks/checkpoints.py",
        "[digest, *former]",
        "[digest]",
        "tests/callbacks/test_checkpoints.py::test_whenever_the_power_fails_the_newest_checkpoint_is_whole",
    ),
    Mutant(
        "one checkpoint too few kept", "callbacks/checkpoints.py",
        "older[keep - 1:]",
        "older[max(0, keep - 2):]",
        "tests/callbacks/test_checkpoints.py::test_what_is_saved_is_loaded_and_older_ones_go",
    ),
    Mutant(
        "what is ahead stays", "callbacks/checkpoints.py",
        "[*ahead, *older",
        "[*older",
        "tests/callbacks/test_checkpoints.py::test_what_is_ahead_was_given_up",
    ),
    Mutant(
        "load verifies nothing", "callbacks/checkpoints.py",
        "        if trouble := _damage(path, file):\n            raise",
        "        if trouble := None:\n            raise",
        "tests/callbacks/test_checkpoints.py::test_no_damaged_checkpoint_loads_silently",
    ),
    Mutant(
        "checksums of a checkpoint without a digest not read", "callbacks/checkpoints.py",
        "damaged = archive.testzip()",
        "damaged = None",
        "tests/callbacks/test_checkpoints.py::test_no_damaged_checkpoint_loads_silently",
    ),
    Mutant(
        "newest instead of newest valid", "callbacks/checkpoints.py",
        "        if trouble is None:\n            return path",
        "        if True:\n            return path",
        "tests/callbacks/test_checkpoints.py::test_a_damaged_one_is_named_and_the_one_before_is_used",
    ),
    Mutant(
        "written into TMPDIR", "callbacks/checkpoints.py",
        '    return path.with_name(f".{path.name}.part")',
        '    return Path(os.environ.get("TMPDIR", "/tmp")) / f".{path.name}.part"',
        "tests/callbacks/test_checkpoints.py::test_killed_at_moments_of_a_save",
    ),
    Mutant(
        "non-atomic write", "callbacks/checkpoints.py",
        "            os.replace(part, path)\n",
        "            path.write_bytes(part.read_bytes())\n",
        "tests/callbacks/test_checkpoints.py::test_whenever_the_power_fails_the_newest_checkpoint_is_whole",
    ),
    Mutant(
        "not read back", "callbacks/checkpoints.py",
        ".hexdigest() != digest:",
        '.hexdigest() == "":',
        "tests/callbacks/test_checkpoints.py::test_a_disk_that_does_not_give_back_what_was_written",
    ),
    Mutant(
        "an error while writing swallowed", "callbacks/checkpoints.py",
        "            raise self.error\n",
        "            self.error = None\n",
        "tests/callbacks/test_checkpoints.py::test_a_disk_that_is_full_after_any_number_of_bytes",
    ),
    Mutant(
        "no lock", "callbacks/checkpoints.py",
        "                fcntl.flock(file, fcntl.LOCK_EX)\n",
        "                pass\n",
        "tests/callbacks/test_checkpoints.py::test_what_a_living_process_writes_is_not_swept_up",
    ),
    Mutant(
        "a full cache keeps its half", "datamodules/decoded.py",
        "        shutil.rmtree(part, ignore_errors=True)  # a full disk needs the room\n",
        "",
        "tests/experiments/test_disk.py::test_a_disk_that_is_full_while_pictures_are_written_or_decoded",
    ),
    Mutant(
        "the record hides what ended the run", "experiments/record.py",
        "            if error is None:\n                raise\n",
        "            raise\n",
        "tests/experiments/test_disk.py::test_the_record_does_not_hide_what_ended_the_run",
    ),
    Mutant(
        "half a picture left", "experiments/runs.py",
        "        except OSError:\n            beside.unlink(missing_ok=True)\n            raise\n",
        "        except OSError:\n            raise\n",
        "tests/experiments/test_disk.py::test_a_disk_that_is_full_while_pictures_are_written_or_decoded",
    ),
    Mutant(
        "room not asked for", "callbacks/checkpoints.py",
        "    if 3 * num_bytes > free + held:",
        "    if num_bytes < 0:",
        "tests/experiments/test_disk.py::test_a_disk_that_is_too_small_is_said_before_training",
    ),
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
    if unknown := set(names) - {mutant.name for mutant in MUTANTS}:
        print(f"no planted fault is called {unknown.pop()!r}; there are: {', '.join(mutant.name for mutant in MUTANTS)}", file=sys.stderr)
        return 2
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
