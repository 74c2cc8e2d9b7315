"""Whose code a config may name: at every door a hostile config is one line and exit code 2, and nothing of it is executed."""

import ast
import itertools
import json
import os
import sys
from pathlib import Path

import pytest
import yaml

from callbacks import allowlist
from callbacks.extractors import load_run
from experiments import workers
from experiments.__main__ import main
from experiments.catalogue import find

ROOT = Path(__file__).parents[2]
COUNT = itertools.count()
HOSTILE = ["canary_module.Thing", "canary_module.run", "os.system", "subprocess.Popen", "builtins.eval", "torch.os.system",
           "torch.hub.load", "torch.load", "torch.jit.load", "lightning_modules.ddpm.DDPM.load_from_checkpoint",
           "transformers.AutoModel.from_pretrained", "callbacks.allowlist.imported", "lightning_modules_too.Model"]


@pytest.fixture
def canary(tmp_path, monkeypatch):
    """A module on the path that leaves a file behind when it is imported or called, and the file."""
    file = tmp_path / "executed"
    (tmp_path / "canary_module.py").write_text(
        f"import pathlib, torch\nfrom lightning import LightningModule, Callback\npathlib.Path({str(file)!r}).touch()\n"
        f"class Thing(LightningModule): pass\nclass Watcher(Callback): pass\ndef run(*a, **k): pathlib.Path({str(file)!r}).touch()\n")
    (tmp_path / "lightning_modules_too.py").write_text(f"import pathlib\npathlib.Path({str(file)!r}).touch()\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    for key, value in {"PRACTICUM_RUNS": str(tmp_path / "runs"), "WANDB_MODE": "disabled", "HF_HUB_OFFLINE": "1"}.items():
        monkeypatch.setenv(key, value)
    monkeypatch.delenv(allowlist.VARIABLE, raising=False)
    monkeypatch.setattr("experiments.training.fit_need", lambda *_: pytest.fail("a hostile config was not refused"))
    yield file
    sys.modules.pop("canary_module", None)


def spec(class_path, **arguments):
    return {"class_path": class_path, "init_args": arguments}


def experiments(path: str, command: str) -> list[dict]:
    """Experiments with a hostile class path at every place where jsonargparse, or we, look for one."""
    base = yaml.safe_load(find("experiment", "ddpm_digits_linear").read_text())
    bad, made = spec(path, command=command, args=command), []

    def at(keys: str, value):
        config = json.loads(json.dumps(base))
        part = config
        *inner, last = keys.split("/")
        for key in inner:
            part = part.setdefault(key, {})
        part[last] = value
        made.append(config)

    for value in (bad, path):
        at("model", value)
        for key in ("network", "schedule", "sampler", "optimizer", "lr_scheduler", "parameterization"):
            at(f"model/init_args/{key}", value)
        for key in ("callbacks", "plugins", "logger"):
            at(f"trainer/{key}", [value])
        at("trainer/callbacks", [spec("callbacks.fid.FrechetDistance", extractor=value)])
        at("model.network", value)
    at("model/dict_kwargs", {"more": bad})
    at("model/init_args/network/dict_kwargs", {"more": [bad]})
    at("trainer/strategy", bad)
    at("trainer/profiler", bad)
    at("trainer/callbacks", [spec("lightning.pytorch.callbacks.LambdaCallback", on_fit_start=path)])
    at("model", json.dumps(bad))
    at("model.schedule.class_path", path)
    return made


def refused(arguments: list[str], canary: Path, capsys) -> str:
    """The one line of a refusal; asserts that it is one, and that nothing was executed."""
    capsys.readouterr()
    code = main(arguments)
    lines = capsys.readouterr().err.strip().splitlines()
    assert not canary.exists() and "canary_module" not in sys.modules, f"executed: {arguments}"
    assert code == 2 and len(lines) == 1, (arguments, code, lines)
    return lines[0]


def hostile_yamls(folder: Path, canary: Path) -> list[Path]:
    """Written YAMLs of experiments, each hostile in another way."""
    texts = [yaml.safe_dump(config) for path in HOSTILE for config in experiments(path, f"touch {canary}")]
    for tag in (f"!!python/object/apply:os.system ['touch {canary}']", "!!python/module:canary_module", "!!python/name:canary_module.run",
                f"!!python/object/new:canary_module.Thing [{canary}]", f"!!python/object/apply:canary_module.run ['{canary}']"):
        texts += [f"model: {tag}\n", f"data: digits\nmodel: {{class_path: {tag}}}\n", f"- {tag}\n", f"? {tag}\n: 1\n"]
    files = []
    for number, text in enumerate(texts):
        files.append(folder / f"hostile_{number}.yaml")
        files[-1].write_text(text)
    return files


def test_hostile_experiments(canary, tmp_path, capsys):
    files = hostile_yamls(tmp_path, canary)
    for file in files[::5]:
        refused(["fit", str(file)], canary, capsys)


@pytest.mark.soak
def test_many_hostile_experiments(canary, tmp_path, capsys):
    files = hostile_yamls(tmp_path, canary)
    for file in files:
        refused(["fit", str(file)], canary, capsys)
    print(f"{len(files)} hostile YAMLs: 0 executed")


@pytest.mark.parametrize("flags", [
    ["--model", "{}"], ["--model.network", "{}"], ["--model.optimizer", "{}"], ["--trainer.callbacks+={}"], ["--trainer.logger", "{}"],
    ["--model.network", '{{"class_path": "{}"}}'], ["--model.network.class_path", "{}"], ["--model.help", "{}"],
    ["--data", "digits", "--model.schedule={}"], ["--model.lr_scheduler", "class_path: {}"]],
    ids=lambda flags: flags[-2] if len(flags) > 1 else flags[0])
def test_hostile_flags(flags, canary, capsys):
    for path in HOSTILE:
        said = refused(["fit", "ddpm_digits_linear", *(flag.format(path) for flag in flags)], canary, capsys)
        assert path in said or "os.system" in path or "AutoModel" in path or "DDPM" in path, said


def test_a_file_that_a_flag_names_is_read_with_the_same_care(canary, tmp_path, capsys):
    (tmp_path / "model.yaml").write_text("class_path: canary_module.Thing\n")
    (tmp_path / "trainer.yaml").write_text("callbacks: [canary_module.Watcher]\n")
    (tmp_path / "config.yaml").write_text("model: {class_path: canary_module.Thing}\n")
    for flags in (["--model", "model.yaml"], ["--trainer", "trainer.yaml"], ["--config", "config.yaml"]):
        assert "canary_module" in refused(["fit", "ddpm_digits_linear", *flags], canary, capsys)
    weights = spec("open_clip.create_model", model_name="ViT-B-32", load_weights_only=False)
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"model": spec("lightning_modules.clip.CLIP", network=weights)}))
    assert "load_weights_only" in refused(["fit", "ddpm_digits_linear", "--config", "config.yaml"], canary, capsys)


@pytest.mark.parametrize("key", sorted(allowlist.HARMLESS))
def test_arguments_that_run_foreign_code(key, canary, capsys):
    value = "false" if allowlist.HARMLESS[key] else "true"
    said = refused(["fit", "ddpm_digits_linear", "--model.network", "open_clip.create_model", f"--model.network.dict_kwargs.{key}", value,
                    "--model.network.model_name", "ViT-B-32"], canary, capsys)
    assert key in said


def test_hostile_data_sets(canary, tmp_path, capsys):
    classes, captions = "datamodules.image_classes.ImageClasses", "datamodules.image_captions.ImageCaptions"
    for path, form in itertools.product(HOSTILE[:4], (lambda path: spec(path), str, lambda path: spec(classes, path=spec(path)),
                                                      lambda path: spec(captions, path="digits", tokenizer=path))):
        (tmp_path / "data.yaml").write_text(yaml.safe_dump({"data": form(path)}))
        for verb in (["fit", "classifier", "--data"], ["data"]):
            refused([*verb, str(tmp_path / "data.yaml")], canary, capsys)


def test_hostile_sweeps(canary, tmp_path, capsys):
    sweep = "method: grid\nexperiment: ddpm_digits_linear\nparameters: {%s}\n"
    for parameter in ("model: {value: {class_path: canary_module.Thing}}", "model.network: {values: [{class_path: torch.hub.load}]}",
                      "model.x: {value: !!python/object/apply:canary_module.run [1]}"):
        (tmp_path / "sweep.yaml").write_text(sweep % parameter)
        refused(["sweep", str(tmp_path / "sweep.yaml")], canary, capsys)
        refused(["compare", str(tmp_path / "sweep.yaml")], canary, capsys)
    outcome = workers.run_trial(["ddpm_digits_linear", "--model=canary_module.Thing"], tmp_path / "trial", tmp_path / "trial.log")
    assert "canary_module" in outcome.reason and allowlist.FLAG in outcome.reason and not canary.exists()


def write_run(folder: Path, **config) -> Path:
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "checkpoints" / "last.ckpt").write_bytes(b"")
    status = {"experiment": "x", "id": folder.name, "state": "finished", "title": "digits", "classes": ["0", "1"], "command": "", "step": 0,
              "seconds": 0.0}
    (folder / "status.json").write_text(json.dumps(status))
    (folder / "metrics.jsonl").write_text("")
    text = (ROOT / "experiments/configs/ddpm_digits_linear.yaml").read_text()
    base = {"seed_everything": 0, "model": yaml.safe_load(text)["model"], "trainer": {},
            "data": spec("datamodules.image_classes.ImageClasses", path="digits")}
    (folder / "config.yaml").write_text(yaml.safe_dump(base | config))
    return folder


@pytest.mark.parametrize("path", ["canary_module.Thing", "os.system", "torch.hub.load"])
def test_hostile_run_folders(path, canary, tmp_path, capsys):
    for form in (spec(path), path, spec("lightning_modules.clip.CLIP", network=spec(path))):
        run = str(write_run(tmp_path / f"run{next(COUNT)}", model=form))
        for verb in ("validate", "test", "sample", "export"):
            refused([verb, run, *(["--out", "o"] if verb == "export" else [])], canary, capsys)
        refused(["zeroshot", run, "--data", "digits"], canary, capsys)
        with pytest.raises(ValueError, match=r"not of an allowed module|expected|Not a valid|Problem"):
            load_run(Path(run))
    tokenizer = spec("datamodules.image_captions.ImageCaptions", path="digits", tokenizer=spec(path))
    refused(["zeroshot", str(write_run(tmp_path / f"run{next(COUNT)}", data=tokenizer)), "--data", "digits"], canary, capsys)
    refused(["figure", "latent_cloud", "--run", f"run={write_run(tmp_path / f'run{next(COUNT)}', data=tokenizer)}"], canary, capsys)


def test_a_hostile_run_in_a_report(canary, tmp_path):
    """The page draws the schedules of runs: those that cannot be made with what is allowed are left out."""
    from experiments.page.closed_form import _is_buildable

    inner = {"class_path": "canary_module.run", "init_args": {"command": f"touch {canary}"}}
    schedules = "lightning_modules.diffusion.schedules"
    assert not _is_buildable(spec(f"{schedules}.Cosine", offset=inner))
    assert not _is_buildable(spec(f"{schedules}.torch.os.system", command=f"touch {canary}"))
    assert _is_buildable(spec(f"{schedules}.Cosine"))
    assert not canary.exists()


def test_a_module_that_the_user_allows(canary, capsys, monkeypatch):
    arguments = ["fit", "ddpm_digits_linear", "--trainer.callbacks+=canary_module.Watcher", "--trainer.max_stepz", "1"]
    assert "max_stepz" in run_allowed([*arguments, "--allow-module", "canary_module"], capsys) and canary.exists()
    sys.modules.pop("canary_module")
    canary.unlink()
    assert allowlist.added() == []
    refused(arguments[:3], canary, capsys)                      # the flag was of that command alone
    monkeypatch.setenv(allowlist.VARIABLE, "other, canary_module")
    assert allowlist.flags() == ["--allow-module", "other", "--allow-module", "canary_module"]
    assert "max_stepz" in run_allowed(arguments, capsys) and canary.exists()


def run_allowed(arguments: list[str], capsys) -> str:
    assert main(arguments) == 2
    return capsys.readouterr().err


@pytest.mark.parametrize("value", ["*", "jsonargparse", "my models", "a;b", "../x", ""])
def test_what_cannot_be_allowed(value, canary, capsys):
    assert allowlist.FLAG in refused(["fit", "ddpm_digits_linear", allowlist.FLAG, value], canary, capsys)


def test_a_misspelt_module_is_named(canary, capsys):
    said = refused(["fit", "ddpm_digits_linear", "--model", "lightning_module.ddpm.DDPM"], canary, capsys)
    assert "did you mean lightning_modules?" in said


def test_every_experiment_is_allowed(monkeypatch):
    monkeypatch.delenv(allowlist.VARIABLE, raising=False)
    for file in (ROOT / "experiments" / "configs").rglob("*.yaml"):
        allowlist.check(yaml.safe_load(file.read_text()), str(file))


# What the code itself may not do ----------------------------------------------------------------------------------------------------------

ROOMS = ("experiments", "callbacks", "datamodules", "lightning_modules")
SOURCES = [path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py"))]
IMPORTERS = {"experiments/__main__.py", "experiments/drawing.py", "callbacks/allowlist.py"}     # names of our own verbs and figures
RUNNERS = {"callbacks/published.py"}                                                             # open_clip's own table, from its package


def faults(name: str, source: str) -> list[str]:
    """Calls by which a file could run code that it reads: each with its line."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        last, given = called.rsplit(".", 1)[-1], {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
        wrong = (
            (called == "torch.load" and given.get("weights_only") != "True")
            or last in ("load_from_checkpoint", "add_safe_globals", "safe_globals", "unsafe_load", "full_load", "Unpickler")
            or called in ("yaml.load_all", "pickle.load", "pickle.loads", "torch.hub.load", "torch.jit.load", "os.system", "__import__")
            or (called == "yaml.load" and not given.get("Loader", "").endswith(("YAML_LOADER", "Loader", "SafeLoader", "yaml.SafeLoader)")))
            or (called in ("np.load", "numpy.load") and "allow_pickle" in given and given["allow_pickle"] != "False")
            or (last == "import_module" and name not in IMPORTERS)
            or (called in ("eval", "exec", "compile") and name not in RUNNERS)
            or given.get("trust_remote_code", "False") != "False"
            or given.get("shell") == "True"
            or (last in ("extractall", "unpack_archive"))
        )
        if wrong:
            found.append(f"{name}:{node.lineno}: {ast.unparse(node)[:80]}")
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_file_runs_what_it_reads(path):
    assert faults(str(path.relative_to(ROOT)), path.read_text()) == []


@pytest.mark.parametrize("line", ["torch.load(p)", "torch.load(p, weights_only=False)", "yaml.load(t, Loader=yaml.Unsafe)",
                                  "yaml.unsafe_load(t)", "Model.load_from_checkpoint(p)", "importlib.import_module(name)",
                                  "eval(text)", "pickle.load(f)", "AutoModel.from_pretrained(n, trust_remote_code=True)",
                                  "np.load(p, allow_pickle=True)", "subprocess.run(c, shell=True)", "zipfile.ZipFile(p).extractall(o)",
                                  "torch.serialization.add_safe_globals([x])"])
def test_such_a_call_is_seen(line):
    assert faults("experiments/training.py", line)


def test_jsonargparse_reads_yaml_safely():
    """The parser's own loader constructs nothing but plain values."""
    from jsonargparse._loaders_dumpers import get_yaml_default_loader

    assert issubclass(get_yaml_default_loader(), (yaml.SafeLoader, getattr(yaml, "CSafeLoader", yaml.SafeLoader)))
    assert os.environ.get("JSONARGPARSE_YAML_LOADER") is None
