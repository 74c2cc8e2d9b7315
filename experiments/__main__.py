"""The `practicum` command: one line per verb; a verb's module is imported only when the verb is called."""

import errno
import importlib
import os
import sys

from callbacks.allowlist import flagged
from callbacks.stopping import Signals, Stopped

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
VERBS = {
    "list": ("experiments.listing", "experiments, data sets, sweeps and figures, one line each"),
    "fit": ("experiments.training:main_fit", "NAME [--data D] [--model.x v ...] [--out DIR]: train an experiment"),
    "resume": ("experiments.training:main_resume", "RUN [--allow-change KEY]: go on with a run that was stopped, as if it had not been"),
    "validate": ("experiments.training:main_validate", "RUN: the run's metrics again, on the validation split"),
    "test": ("experiments.training:main_test", "RUN: the run's metrics on the test split"),
    "sample": ("experiments.sampling", "RUN [--label 3] [--num 16] [--sampler ddim] [--steps 50] [--guidance 3]: pictures"),
    "export": ("experiments.exporting", "RUN --out FOLDER: a run of CLIP or SigLIP as a checkpoint of open_clip"),
    "data": ("experiments.data_sheet", "NAME [--num 48] [--split train] [--out sheet.png]: a contact sheet of a data set, and statistics"),
    "zeroshot": ("experiments.zeroshot", "RUN_OR_MODEL --data A B C [--pretrained FILE|TAG]: name pictures by words, on many data sets"),
    "sweep": ("experiments.sweeps", "FILE [--workers N]: every trial of a W&B sweep file"),
    "report": ("experiments.dashboard", "RUNS... [--out DIR] [--wandb]: the page that compares runs"),
    "compare": ("experiments.comparing", "FILE: sweep, then report"),
    "figure": ("experiments.drawing", "NAME or all [--run KEY=RUN] [--out DIR]: a figure of the lectures; trains what it needs"),
    "doctor": ("experiments.doctor", "what is installed, cached and reachable; known faults with their remedies"),
}
USAGE = "usage: practicum VERB [arguments]\n\n" + "\n".join(f"  {verb:9} {what}" for verb, (_, what) in VERBS.items()) + """

`practicum VERB --help` says more. Runs are written to ./runs (or $PRACTICUM_RUNS).
--allow-module PREFIX, with any verb, lets configs name classes of that module (or $PRACTICUM_ALLOW_MODULES).
PRACTICUM_TRACEBACK=1 shows where a mistake was found."""


def main(arguments: list[str] | None = None) -> int:
    """Runs a verb and returns the exit code: 0 done, 1 failed, 2 a mistake in what was asked (one line on stderr)."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(USAGE)
        return 0
    verb, *rest = arguments
    if verb not in VERBS:
        from experiments.catalogue import nearest
        print(f"practicum: there is no verb {verb!r}; {nearest(verb, VERBS)}", file=sys.stderr)
        return 2
    module, _, function = VERBS[verb][0].partition(":")
    try:
        with Signals(), flagged(rest) as rest:
            return getattr(importlib.import_module(module), function or "main")(rest) or 0
    except ValueError as error:
        if os.environ.get("PRACTICUM_TRACEBACK"):
            raise
        print(f"practicum {verb}: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        return 1
    except OSError as error:  # a folder that cannot be written, a full disk
        if os.environ.get("PRACTICUM_TRACEBACK") or error.errno is None:
            raise
        where = "" if error.filename is None else f"{error.filename}: "
        remedy = "; make room there" if error.errno in FULL and "make room" not in str(error.strerror) else ""
        print(f"practicum {verb}: {where}{error.strerror}{remedy}", file=sys.stderr)
        return 1 if error.errno in (*FULL, errno.EIO) else 2
    except FloatingPointError as error:  # NaN or Inf in training
        if os.environ.get("PRACTICUM_TRACEBACK"):
            raise
        print(f"practicum {verb}: {error}", file=sys.stderr)
        return 1
    except Stopped as stop:
        print(f"practicum {verb}: {stop}", file=sys.stderr)
        return stop.exit_code


if __name__ == "__main__":
    sys.exit(main())
