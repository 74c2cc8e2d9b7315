"""Mutated YAMLs of our own: each is refused in one line with exit code 2 and without a trace, or is still a valid experiment.

Nothing is trained and no data set is read: a mutant that has passed every check is counted as valid where training would begin.
"""

import copy
import json
import random
import resource
import signal
import time
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
import yaml
from lightning.pytorch import LightningModule

from callbacks.extractors import built
from experiments import training
from experiments.__main__ import main
from experiments.catalogue import entries, read_yaml
from experiments.request import Request
from tests.experiments.test_allowlist import write_run

SECONDS = 1.0           # of CPU that a refusal may take
GIVE_UP = 20            # seconds after which a mutant counts as one that hangs
MEMORY = 24 << 30       # bytes of address space, so that a network of a billion channels is refused here as on any machine
WRONG = [None, True, 3, -1, 0.5, "", "wrong", "3 apples", [], {}, [1, "a", None], {"class_path": 3}, {"class_path": "Nothing"},
         {"init_args": {"x": 1}}, {"x": {"y": {"z": 1}}}, "run:nothing", "samples:nothing:3", "null", "${oc.env:HOME}", "../../etc/passwd",
         "torch.nn.Identity", "lightning_modules", "lightning_modules.", ".", "a" * 5000, "\x07\x1b[2J", "日本語", "2026-99-99"]
HUGE = [2**31, 2**63, -(2**63), 10**30, 1e308, float("inf"), float("nan"), 1e-320, -0.0]
JUNK = ["\t", "{", "}", "[", "]", ": ", "- ", "&a ", "*a", "*missing", "!!python/object:os.system ", "!!int x", "%YAML 9.9\n---\n", "---\n",
        "'", '"', "|", ">", "# ", "\x00", "\x85", "<<: 3\n", "? ", "@", "`", "!!binary x", "0x", "0o8", "1_000",
        "1e999", "=", "~"]


class Done(BaseException):
    """A mutant that would have been trained."""


@pytest.fixture
def nothing_is_trained(tmp_path, monkeypatch):
    """Every step of `fit` but the reading of data and the training itself."""
    judge = write_run(tmp_path / "judge")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PRACTICUM_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("WANDB_MODE", "disabled")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.delenv("PRACTICUM_DATA", raising=False)
    known = {"channels": 1, "image_size": 16, "num_classes": 10, "vocabulary_size": 64, "context_length": 16,
             "attributes": {"shape": ["a", "b"]}}

    def facts(data):
        training.data_module(data)
        return known

    def done(*_, **__):
        raise Done

    monkeypatch.setattr(training, "facts", facts)
    monkeypatch.setattr(training, "fit_missing", lambda request, *_: {Request(need).experiment: judge for need in request.needs})
    monkeypatch.setattr(training, "settle_samples", lambda request, *_: request)
    monkeypatch.setattr("datamodules.hugging_face.HuggingFaceData.class_names", [])
    monkeypatch.setattr(training, "train", done)
    monkeypatch.setattr(training, "run_stage", done)
    return tmp_path


# Mutations --------------------------------------------------------------------------------------------------------------------------------

def places(value, path=()):
    """Every path to a value inside mappings and lists."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield (*path, key)
        yield from places(item, (*path, key))


def at(value, path):
    for key in path:
        value = value[key]
    return value


def misspelt(word: str, random: random.Random) -> str:
    place = random.randrange(len(word))
    return random.choice([word[:place] + word[place + 1:], word[:place] + word[place] * 2 + word[place + 1:], word[::-1], word.upper(),
                          word + "s", f"{word}.{word}", f" {word}", word.replace("_", "-") + "-"])


def change(content: dict, random: random.Random) -> str:
    """One change of the structure, and its name."""
    content = copy.deepcopy(content)
    path = random.choice(list(places(content)))
    parent, key = at(content, path[:-1]), path[-1]
    kind = random.choice(["dropped", "misspelt", "type", "huge", "nested", "moved", "repeated", "listed"])
    if kind == "dropped":
        del parent[key]
    elif kind == "misspelt" and isinstance(key, str):
        parent[misspelt(key, random)] = parent.pop(key)
    elif kind == "misspelt" and isinstance(parent[key], str) and parent[key]:
        parent[key] = misspelt(parent[key], random)
    elif kind == "huge":
        parent[key] = random.choice(HUGE)
    elif kind == "nested":
        parent[key] = {random.choice(["x", "class_path", "init_args", str(key)]): parent[key]}
    elif kind == "moved":
        target = at(content, random.choice([()] + [other for other in places(content) if isinstance(at(content, other), dict)]))
        if isinstance(target, dict):
            target[str(key)] = copy.deepcopy(parent[key])
    elif kind == "repeated":
        line = yaml.safe_dump({str(key): parent[key]}, default_flow_style=True, width=10**6).strip()[1:-1]
        return yaml.safe_dump(content, sort_keys=False) + f"{line}\n{line}\n"
    elif kind == "listed":
        parent[key] = [parent[key], parent[key]]
    else:
        parent[key] = random.choice(WRONG)
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True)


def damage(text: str, random: random.Random) -> bytes:
    """One change of the text."""
    lines = text.splitlines(keepends=True)
    number, place = random.randrange(len(lines)), random.randrange(len(text))
    kind = random.choice(["cut", "junk", "bytes", "line", "indent", "swap", "twice", "bomb", "deep", "self", "digits", "tab", "joined",
                          "crlf"])
    if kind == "cut":
        return text[:place].encode()
    if kind == "junk":
        return (text[:place] + random.choice(JUNK) + text[place:]).encode()
    if kind == "bytes":
        return text[:place].encode() + random.randbytes(random.choice([1, 2, 100])) + text[place:].encode()
    if kind == "line":
        del lines[number]
    elif kind == "indent":
        lines[number] = random.choice([" ", "  ", "      ", "\t"]) + lines[number]
    elif kind == "swap":
        other = random.randrange(len(lines))
        lines[number], lines[other] = lines[other], lines[number]
    elif kind == "twice":
        lines.insert(number, lines[number])
    elif kind == "bomb":
        bomb = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 30))
        inside = "model:\n" + "".join(f"  {line}\n" for line in bomb.split("\n"))
        return (random.choice([bomb, bomb.replace("[", "{k: [").replace("]", "]}"), inside]) + text).encode()
    elif kind == "deep":
        brackets = random.choice([("[", "]"), ("{x: ", "}")])
        depth = random.choice([50, 500, 5000])
        return (text + f"more: {brackets[0] * depth}{brackets[1] * depth}\n").encode()
    elif kind == "self":
        return (text + random.choice(["more: &m [*m]\n", "more: &m {k: *m}\n", "trainer: &t {callbacks: [*t]}\n"])).encode()
    elif kind == "digits":
        return (text + f"seed_everything: {'9' * random.choice([20, 400, 6000])}\n").encode()
    elif kind == "tab":
        return text.replace("  ", "\t").encode()
    elif kind == "joined":
        return " ".join(lines).replace("\n", " ").encode()
    else:
        return text.replace("\n", random.choice(["\r\n", "\r", "\n\n", "\u2028"])).encode()
    return "".join(lines).encode()


def mutants(num: int, seed: int = 0):
    """(the verb's arguments, as a function of the file; the mutated bytes) of experiments, data sets and sweeps in turn."""
    chance = random.Random(seed)
    kinds = {"experiment": lambda file: ["fit", file], "data set": lambda file: ["fit", "classifier", "--data", file],
             "sweep": lambda file: ["sweep", "--dry-run", file]}
    for number in range(num):
        kind = chance.choices(list(kinds), [4, 1, 1])[0]
        path = chance.choice(entries(kind)).path
        text = path.read_text()
        mutated = damage(text, chance) if number % 2 else change(read_yaml(path), chance).encode("utf-8", "replace")
        if number % 7 == 0:     # two faults at once
            mutated = damage(mutated.decode("utf-8", "replace") or " ", chance)
        yield kinds[kind], mutated


@contextmanager
def bounded():
    """An end to what hangs, and to what takes all memory."""
    def stop(*_):
        raise TimeoutError(f"no answer within {GIVE_UP} s")

    before = resource.getrlimit(resource.RLIMIT_AS)
    handler = signal.signal(signal.SIGALRM, stop)
    signal.alarm(GIVE_UP)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
        signal.alarm(0)
        signal.signal(signal.SIGALRM, handler)


def verdict(arguments: list[str], capsys) -> tuple[str, float]:
    """"refused", "valid", or what is wrong with the answer; and its seconds of CPU."""
    capsys.readouterr()
    began = time.process_time()
    try:
        with bounded():
            code: object = main(arguments)
    except Done:
        code = 0
    except BaseException as error:
        code = f"{type(error).__name__}: {error}"
    seconds = time.process_time() - began
    said = capsys.readouterr().err.strip().splitlines()
    if code == 0:
        return "valid", seconds
    if code != 2:
        return f"exit {code}: {said[-1:]}", seconds
    if len(said) != 1 or len(said[0]) > 1000 or not said[0].isprintable():
        return f"not one line: {said}", seconds
    return ("refused" if seconds < SECONDS else f"{seconds:.1f} s: {said[0]}"), seconds


def check_mutants(num: int, folder: Path, capsys, seed: int = 0) -> tuple[Counter, float]:
    """Counts the verdicts; the files of those that are wrong are kept."""
    counts, slowest = Counter(), 0.0
    wrong = []
    main(["fit", "classifier", "--data", "digitz"])             # the imports
    for number, (arguments, mutated) in enumerate(mutants(num, seed)):
        file = folder / f"mutant_{number}.yaml"
        file.write_bytes(mutated)
        found, seconds = verdict(arguments(str(file)), capsys)
        if SECONDS < seconds < 3 * SECONDS:         # other programs may have had the caches
            found, seconds = verdict(arguments(str(file)), capsys)
        counts[found if found in ("valid", "refused") else "wrong"] += 1
        slowest = max(slowest, seconds if found == "refused" else 0)
        if found in ("valid", "refused"):
            file.unlink()
        else:
            wrong.append((file.name, found))
        if found == "refused":
            assert not list((folder / "runs").glob("*/*/status.json")) or counts["valid"], "a refused YAML left a run behind"
    (folder / "wrong.json").write_text(json.dumps(wrong, indent=1))
    assert not wrong, f"{len(wrong)} of {num}, in {folder}: {wrong[:5]}"
    return counts, slowest


def check_configs(num: int, folder: Path, capsys, seed: int = 0) -> Counter:
    """The same for config.yaml of a run that is validated, sampled from, or gone on with."""
    chance, counts, wrong = random.Random(seed), Counter(), []
    run = write_run(folder / "run")
    config = training.check(Request.read(["ddpm_digits_linear", "--trainer.callbacks", "[]"]))
    text = yaml.safe_dump(config, sort_keys=False)
    (run / "config.yaml").write_text(text)
    weights = built(run, "model", LightningModule).state_dict()
    torch.save({"state_dict": weights}, run / "checkpoints" / "last.ckpt")
    assert verdict(["validate", str(run)], capsys)[0] == "valid", "the run itself is whole"
    for number in range(num):
        mutated = damage(text, chance) if number % 2 else change(config, chance).encode()
        (run / "config.yaml").write_bytes(mutated)
        found, _ = verdict(chance.choice([["validate", str(run)], ["sample", str(run)], ["resume", str(run)]]), capsys)
        counts[found if found in ("valid", "refused") else "wrong"] += 1
        if found not in ("valid", "refused"):
            wrong.append((f"{number}.yaml", found))
            (folder / f"{number}.yaml").write_bytes(mutated)
    (folder / "wrong.json").write_text(json.dumps(wrong, indent=1))
    assert not wrong, f"{len(wrong)} of {num}, in {folder}: {wrong[:5]}"
    return counts


def test_mutated_yamls(nothing_is_trained, capsys):
    check_mutants(120, nothing_is_trained, capsys)


def test_mutated_configs_of_runs(nothing_is_trained, capsys):
    check_configs(30, nothing_is_trained, capsys)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_two_thousand_mutated_yamls(nothing_is_trained, capsys):
    counts, slowest = check_mutants(2000, nothing_is_trained, capsys, seed=1)
    with capsys.disabled():
        print(f"2,000 mutated YAMLs: {counts['refused']} refused in one line (the slowest in {slowest:.2f} s of CPU), "
              f"{counts['valid']} still valid")


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_three_hundred_mutated_configs_of_runs(nothing_is_trained, capsys):
    counts = check_configs(300, nothing_is_trained, capsys, seed=1)
    with capsys.disabled():
        print(f"300 mutated configs of runs: {counts['refused']} refused in one line, {counts['valid']} still valid")


SILENT = {      # what a loader would pass over, or never come back from
    "a key that stands twice": ("trainer: {max_steps: 3}\ntrainer: {max_steps: 4}\n", "stands twice"),
    "one inside": ("trainer: {max_steps: 3, max_steps: 4}\n", "stands twice"),
    "a key that is no word": ("1: x\n", "no word"), "a key that is a list": ("[a, b]: x\n", "no word"),
    "a key that is a truth": ("on: x\n", "no word"),
    "a bomb": ("a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 40)), "anchors"),
    "itself": ("a: &a [*a]\n", "anchors"), "depth": (f"a: {'[' * 900}{']' * 900}\n", "nested"),
    "more depth": ("a: " + "[" * 100_000, "nested"), "mappings": ("a: " + "{a: " * 100_000, "nested"),
    "items": ("- " * 100_000, "nested"),
    "lines": ("".join(" " * depth + "a:\n" for depth in range(1400)), "nested"),
    "digits": (f"seed_everything: {'9' * 6000}\n", "not YAML"), "a date": ("a: 2026-13-45\n", "not YAML"),
    "a tag": ("a: !!python/object/apply:os.getcwd []\n", "not YAML"), "size": ("a: " + "x" * 2_000_000, "no config"),
    "another alphabet": ("a: \udcff\n", "not YAML"), "nothing": ("", "expected a mapping"),
    "two documents": ("a: 1\n---\na: 2\n", "not YAML"),
}


@pytest.mark.parametrize("kind", SILENT)
def test_what_a_loader_would_pass_over(kind, tmp_path, capsys):
    text, said = SILENT[kind]
    (tmp_path / "mine.yaml").write_bytes(text.encode("utf-8", "surrogateescape"))
    capsys.readouterr()
    with bounded():
        assert main(["fit", str(tmp_path / "mine.yaml")]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and said in lines[0], lines
