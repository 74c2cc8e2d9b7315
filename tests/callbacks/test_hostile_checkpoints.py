"""Checkpoints and weights that would run code: refused in one line wherever a file of weights is read, and nothing is executed."""

import builtins
import functools
import io
import os
import pickle
import runpy
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
import torch

from callbacks import checkpoints
from callbacks.clips import Clip
from callbacks.extractors import Inception, OpenClip, Timm, load_run
from experiments.__main__ import main
from lightning_modules.networks.towers import open_clip_model
from lightning_modules.networks.word_vectors import WordVectors
from tests.callbacks.tiny_open_clip import write_open_clip, write_open_clip_folder
from tests.experiments.test_allowlist import canary, write_run  # noqa: F401 (a fixture)


class Calls:
    """Calls a function when it is unpickled."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


def saved(value, **how) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer, **how)
    return buffer.getvalue()


def with_member(data: bytes, name: str, content: bytes) -> bytes:
    """A zip with one more file in it."""
    buffer = io.BytesIO(data)
    with zipfile.ZipFile(buffer, "a") as file:
        file.writestr(name, content)
    return buffer.getvalue()


def archive(content: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as file:
        info = tarfile.TarInfo("../../escaped")
        info.size = len(content)
        file.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def hostile(file: Path) -> dict[str, bytes]:
    """A dozen files that would leave `file` behind, were they unpickled without care."""
    system, code = Calls(os.system, f"touch {file}"), f"open({str(file)!r}, 'w')"
    state = {"state_dict": {"weight": torch.zeros(2)}, "epoch": 1}
    sys.modules.pop("canary_module", None)
    imports = b"ccanary_module\nrun\n(tR."           # protocol 0: import the module and call the function
    return {
        "system": saved({**state, "x": system}),
        "system, as torch once saved": saved({**state, "x": system}, _use_new_zipfile_serialization=False),
        "exec": saved(Calls(builtins.exec, code)), "eval in the state": saved({"state_dict": {"weight": Calls(builtins.eval, code)}}),
        "process": saved({"optimizer_states": [{"state": Calls(subprocess.Popen, ["touch", str(file)])}]}),
        "partial": saved({**state, "x": Calls(functools.partial(os.system), f"touch {file}")}),
        "a pickle": pickle.dumps({**state, "x": system}), "an import": imports,
        "an import in an archive": with_member(saved({}).replace(b"archive/data.pkl", b"archive/data.bak"), "archive/data.pkl", imports),
        "runpy": saved(Calls(runpy.run_path, str(file.parent / "canary_module.py"))),
        "a tar": archive(pickle.dumps(system)), "numpy": saved({"state_dict": Calls(getattr(builtins, "__import__"), "canary_module")}),  # noqa: B009
    }


@pytest.fixture
def weights(canary, tmp_path):  # noqa: F811
    """Files of hostile weights, and a check that nothing of them was executed."""
    files = []
    for number, data in enumerate(hostile(canary).values()):
        files.append(tmp_path / f"hostile_{number}.ckpt")
        files[-1].write_bytes(data)
    assert len(files) >= 10
    with pytest.raises(Exception):  # noqa: B017
        pickle.loads(pickle.dumps(Calls(exec, f"open({str(canary)!r}, 'w'); raise ValueError")))
    assert canary.exists(), "such a pickle does execute what it says"
    canary.unlink()
    yield files
    assert not canary.exists() and "canary_module" not in sys.modules


def one_line(read, *arguments) -> str:
    with pytest.raises(ValueError) as caught:
        read(*arguments)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500, str(caught.value)
    return str(caught.value)


def test_checkpoints(weights):
    for file in weights:
        assert str(file) in one_line(checkpoints.load, file)


def test_runs(weights, tmp_path, capsys):
    run = write_run(tmp_path / "run")
    last = run / "checkpoints" / "last.ckpt"
    for file in weights:
        last.write_bytes(file.read_bytes())
        one_line(load_run, run)
        for verb in (["validate", str(run)], ["test", str(run)], ["sample", str(run)]):
            capsys.readouterr()
            assert main(verb) == 2
            assert len(capsys.readouterr().err.strip().splitlines()) == 1
        assert checkpoints.newest_valid(run / "checkpoints") is None


def test_weights_of_libraries(weights, tmp_path):
    architecture, _ = write_open_clip(tmp_path / "clip")
    folder = write_open_clip_folder(tmp_path / "saved")
    for file in weights:
        one_line(Timm("resnet10t", weights=file).load)
        one_line(Inception(file).load)
        one_line(OpenClip(architecture, str(file)).load)
        one_line(open_clip_model, architecture, str(file))
        (folder / "open_clip_pytorch_model.bin").write_bytes(file.read_bytes())
        one_line(OpenClip(str(folder)).load)
        one_line(open_clip_model, str(folder), None)


def test_word_vectors(weights, tmp_path):
    folder = tmp_path / "vectors"
    folder.mkdir()
    (folder / "words.txt").write_text("a\nb\n")
    for file in weights[:4]:
        (folder / "vectors.safetensors").write_bytes(file.read_bytes())
        with pytest.raises(Exception, match=r"(?i)vectors|header|safetensor"):
            WordVectors(str(folder))


@pytest.mark.parametrize("kind", ["tokenizer_kwargs", "broken", "not an object"])
def test_a_described_architecture(kind, canary, tmp_path):  # noqa: F811
    """open_clip hands `tokenizer_kwargs` on to transformers, which would run the code of a tokenizer."""
    file = tmp_path / "evil.json"
    file.write_text({"tokenizer_kwargs": '{"text_cfg": {"hf_tokenizer_name": "x/y", "tokenizer_kwargs": {"trust_remote_code": true}}}',
                     "broken": "{", "not an object": "[" * 3000 + "]" * 3000}[kind])
    (tmp_path / "weights.pt").write_bytes(b"")
    assert str(file) in one_line(lambda: Clip(name=str(file), pretrained=str(tmp_path / "weights.pt")))
    assert not canary.exists()
