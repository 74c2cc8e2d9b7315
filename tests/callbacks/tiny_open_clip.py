"""A small architecture of open_clip with random weights: its JSON file and its weights, saved by open_clip's own means."""

import json
from pathlib import Path
from typing import Any

import torch

TINY: dict[str, Any] = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 8},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}


def write_open_clip(folder: Path, sigmoid: bool = False, seed: int = 0, context_length: int = 77) -> tuple[str, str]:
    """Writes tiny.json and tiny.pt; returns their paths."""
    import open_clip

    folder.mkdir(parents=True, exist_ok=True)
    config = TINY | {"text_cfg": {**TINY["text_cfg"], "context_length": context_length}}
    config |= {"init_logit_bias": -10.0, "init_logit_scale": 2.3} if sigmoid else {}
    name = f"tiny_{'sigmoid' if sigmoid else 'softmax'}"
    (folder / f"{name}.json").write_text(json.dumps(config))
    open_clip.add_model_config(folder / f"{name}.json")
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = open_clip.create_model(name)
    torch.save(model.state_dict(), folder / f"{name}.pt")
    return str(folder / f"{name}.json"), str(folder / f"{name}.pt")


def write_open_clip_folder(folder: Path, context_length: int = 77) -> Path:
    """Writes a folder as open_clip saves one for the Hub: its config and its weights."""
    import open_clip
    from open_clip.push_to_hf_hub import save_config_for_hf

    architecture, weights = write_open_clip(folder, context_length=context_length)
    model = open_clip.create_model(Path(architecture).stem, pretrained=weights)
    save_config_for_hf(model, folder / "open_clip_config.json", model_config=json.loads(Path(architecture).read_text()))
    torch.save(model.state_dict(), folder / "open_clip_pytorch_model.bin")
    for path in (architecture, weights):
        Path(path).unlink()
    return folder
