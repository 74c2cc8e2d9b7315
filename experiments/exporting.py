"""`practicum export`: a run of CLIP or SigLIP as a folder that open_clip loads by itself, `local-dir:FOLDER`.

open_clip_config.json describes the architecture and what is done to a picture, open_clip_model.safetensors holds the weights. A
vocabulary of the run's own comes as tokenizer.json, which open_clip reads where transformers is installed.
"""

import json
import os
import shutil
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor, nn

from callbacks.clips import Clip
from datamodules.tokenizers import Tokenizer, Vocabulary
from experiments.catalogue import Arguments, Mistake
from experiments.runs import find_run, new_id
from lightning_modules.networks.text import TextTransformer
from lightning_modules.networks.towers import OpenClip, TwoTowers, open_clip_config
from lightning_modules.networks.transformer import Transformer
from lightning_modules.networks.vision import ViT


def main(arguments: list[str]) -> int:
    """The verb `export`."""
    parser = Arguments(prog="practicum export", description=__doc__.split("\n")[0])
    parser.add_argument("run", help="a run folder, NAME/ID, or NAME for its latest run")
    parser.add_argument("--out", type=Path, required=True, help="the folder to write")
    asked = parser.parse_args(arguments)
    print(export(find_run(asked.run), asked.out))
    return 0


def export(folder: Path, out: Path) -> Path:
    """Writes the model of a run folder as the folder `out`, which appears only when it is whole; returns it.

    Raises `Mistake` for towers that open_clip does not have, and for a folder that is there.
    """
    if out.exists():
        raise Mistake(f"--out {out} is there already; choose another folder")
    clip = Clip(run=folder)
    model: Any = clip.network.cpu()
    config, weights = described(model, clip.tokenizer)
    partial = out.with_name(f".{out.name}-{new_id()}")
    partial.mkdir(parents=True)
    try:
        if isinstance(clip.tokenizer, Vocabulary):
            write_vocabulary(clip.tokenizer, partial)
            config["model_cfg"]["text_cfg"]["hf_tokenizer_name"] = "tokenizer.json"
        (partial / "open_clip_config.json").write_text(json.dumps(config, indent=1) + "\n")
        save_file({name: tensor.detach().contiguous().clone() for name, tensor in weights.items()}, partial / "open_clip_model.safetensors")
        os.replace(partial, out)
    except BaseException:
        shutil.rmtree(partial)
        raise
    return out


def described(model: Any, tokenizer: Tokenizer) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What open_clip is told of a `CLIP` or `SigLIP` (model_cfg and preprocess_cfg), and the weights by the names that it gives them."""
    network, bias = model.network, getattr(model, "bias", None)
    if isinstance(network, OpenClip):
        architecture, preprocess = open_clip_config(network.name), network.model.visual.preprocess_cfg
        weights = {name: weight for name, weight in network.model.state_dict().items() if not name.startswith("logit_")}
    else:
        image, text = supported(network)
        pixels = {"mean": [0.5] * 3, "std": [0.5] * 3}
        preprocess = {"size": image.image_size, **pixels, "interpolation": "bicubic", "resize_mode": "shortest"}
        architecture = {"embed_dim": network.embedding_dim,
                        "vision_cfg": {"image_size": image.image_size, "patch_size": image.patch_size, "width": image.width,
                                       "layers": len(image.transformer), "head_width": image.head_dim},
                        "text_cfg": {"context_length": text.context_length, "vocab_size": text.vocabulary_size, "width": text.width,
                                     "heads": text.width // text.head_dim, "layers": len(text.transformer),
                                     "pad_id": tokenizer.pad, "eos_id": tokenizer.end, "pool_type": "eos"}}
        weights = of_image(image, network.image_projection) | of_text(text, network.text_projection)
    architecture |= {"init_logit_bias": None if bias is None else float(bias)}
    weights |= {"logit_scale": model.log_scale} | ({} if bias is None else {"logit_bias": bias})
    return {"model_cfg": architecture, "preprocess_cfg": preprocess}, weights


def supported(network: TwoTowers) -> tuple[ViT, TextTransformer]:
    """The two towers, if open_clip has their like."""
    image, text = network.image_tower, network.text_tower
    for tower, kind, name in ((image, ViT, "image"), (text, TextTransformer, "text")):
        if not isinstance(tower, kind):
            remedy = f"to export a run, train it with {kind.__module__}.{kind.__name__}"
            raise Mistake(f"network.{name}: open_clip has no {type(tower).__name__}; {remedy}")
    if image.channels not in (1, 3):
        raise Mistake(f"data.channels: {image.channels}: open_clip knows gray and RGB alone; train with --data.channels 3 to export")
    return image, text


def of_image(tower: ViT, projection: nn.Linear) -> dict[str, Tensor]:
    """The weights of open_clip's VisionTransformer; of gray pictures each of the three channels says a third."""
    patches = tower.patches.weight
    named = {"conv1.weight": patches if tower.channels == 3 else patches.expand(-1, 3, -1, -1) / 3, "class_embedding": tower.token,
             "positional_embedding": tower.positions, "proj": projection.weight.T, **of_layer("ln_pre", tower.norm1),
             **of_layer("ln_post", tower.norm2), **of_blocks(tower.transformer)}
    return {f"visual.{name}": weight for name, weight in named.items()}


def of_text(tower: TextTransformer, projection: nn.Linear) -> dict[str, Tensor]:
    """The weights of open_clip's text tower, which lies in the model itself."""
    return {"token_embedding.weight": tower.words.weight, "positional_embedding": tower.positions, "text_projection": projection.weight.T,
            **of_layer("ln_final", tower.norm), **of_blocks(tower.transformer)}


def of_blocks(blocks: Transformer) -> dict[str, Tensor]:
    named: dict[str, Tensor] = {}
    for number, block in enumerate(blocks):
        at, own = f"transformer.resblocks.{number}", block.get_submodule
        named |= {f"{at}.attn.in_proj_{kind}": weight for kind, weight in own("to_qkv").named_parameters()}
        theirs = {"to_out": "attn.out_proj", "norm1": "ln_1", "norm2": "ln_2", "mlp.0": "mlp.c_fc", "mlp.2": "mlp.c_proj"}
        for layer, name in theirs.items():
            named |= of_layer(f"{at}.{name}", own(layer))
    return named


def of_layer(name: str, layer: nn.Module) -> dict[str, Tensor]:
    return {f"{name}.{kind}": weight for kind, weight in layer.named_parameters()}


def write_vocabulary(tokenizer: Vocabulary, folder: Path) -> None:
    """tokenizer.json and tokenizer_config.json, as transformers reads them."""
    tokenizer.library().save(str(folder / "tokenizer.json"))
    special = dict(zip(("pad_token", "bos_token", "eos_token", "unk_token", "sep_token"), tokenizer.special, strict=True))
    about = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": tokenizer.context_length, **special}
    (folder / "tokenizer_config.json").write_text(json.dumps(about, indent=1) + "\n")
