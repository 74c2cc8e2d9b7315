"""Who may import whom: the table of the README, read off the code with `ast`."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("experiments", "lightning_modules", "datamodules", "callbacks")
PURE = ("lightning_modules.networks", "lightning_modules.diffusion", "lightning_modules.losses")
FOREIGN_TO_PURE = ("lightning", "wandb", "datasets")
MODELS_IMPORTING_MODELS: set[tuple[str, str]] = set()     # exceptions, by name
FILES = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imports(source: str) -> set[str]:
    """Every module named by an import statement anywhere in a source text; `from a.b import c` names a.b and a.b.c."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "write imports in full"
            found |= {node.module or ""} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def inside(name: str, rooms: tuple[str, ...] | str) -> bool:
    rooms = (rooms,) if isinstance(rooms, str) else rooms
    return any(name == room or name.startswith(room + ".") for room in rooms)


def forbidden(module: str, source: str) -> list[str]:
    """The imports of `module` that the table does not allow."""
    names = imports(source)
    ours = {name for name in names if inside(name, ROOMS)}
    if module == "datamodules.batch":
        return sorted(ours)
    pure = next((room for room in PURE if inside(module, room)), None)
    if pure:
        return sorted({name for name in ours if not inside(name, pure)} | {name for name in names if inside(name, FOREIGN_TO_PURE)})
    if inside(module, "lightning_modules"):
        allowed = (*PURE, "lightning_modules.base", "datamodules.batch")
        bad = {name for name in ours if not inside(name, allowed) and name != "lightning_modules"}
        bad = {name for name in bad if not any(inside(name, other) and (module, other) in MODELS_IMPORTING_MODELS for other in ROOMS)}
        return sorted(bad | {name for name in names if inside(name, "wandb")})
    if inside(module, "datamodules"):
        return sorted(name for name in ours if not inside(name, "datamodules"))
    if inside(module, "callbacks"):
        return sorted(name for name in ours if not inside(name, ("callbacks", "datamodules.batch")) and name != "datamodules")
    return []


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_only_allowed_imports(path):
    assert forbidden(module_name(path), path.read_text()) == []


def test_pure_rooms_do_not_import_each_other():
    assert forbidden("lightning_modules.networks.unet", "from lightning_modules.diffusion.noise import randn")
    assert forbidden("lightning_modules.networks.unet", "import lightning")
    assert not forbidden("lightning_modules.networks.unet", "from lightning_modules.networks.attention import PixelAttention")


def test_faults_are_seen():
    assert forbidden("callbacks.fid", "from lightning_modules.classifier import Classifier")
    assert forbidden("datamodules.scenes", "import callbacks.media")
    assert forbidden("datamodules.batch", "from datamodules.images import decode")
    assert forbidden("lightning_modules.clip", "from lightning_modules.siglip import SigLIP")
    assert forbidden("lightning_modules.clip", "def f():\n    import wandb")
    assert not forbidden("lightning_modules.clip", "from lightning_modules.base import Model\nfrom datamodules.batch import Batch")


def test_empty_init_files():
    assert [str(path) for path in FILES if path.name == "__init__.py" and path.read_text().strip()] == []


def test_quick_verbs_do_not_import_torch():
    """Help, list and a refused command must answer in 0.3 s: nothing on their way may import torch."""
    import subprocess
    import sys

    code = ("import sys; from experiments.__main__ import main; main({}); "
            "assert 'torch' not in sys.modules and 'lightning' not in sys.modules, 'torch was imported'")
    for arguments in (["--help"], ["list"], ["fitt"]):
        done = subprocess.run([sys.executable, "-c", code.format(arguments)], capture_output=True, text=True, cwd=ROOT)
        assert done.returncode == 0, done.stderr
