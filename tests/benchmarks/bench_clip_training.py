"""Training CLIP here and by open_clip's own loop: the same towers with the same weights, the same scenes, captions and batch.

Ours is the whole of `practicum fit`: Trainer, record, progress, data module. Theirs is `open_clip_train.train.train_one_epoch` on a
model of open_clip, given batches of tensors that lie in memory; its transforms, tokenizer and workers cost it nothing. Both have
AdamW, fused (open_clip's own is not, and slower).
One process, one thread, interleaved, CPU time, minimum of rounds. The step is about 200 ms.

Run alone: python -m tests.benchmarks.bench_clip_training
"""

import tempfile
import time
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import open_clip
import torch
from lightning.pytorch import Trainer
from open_clip.loss import ClipLoss
from open_clip_train.train import train_one_epoch

from callbacks.training_progress import TrainingProgress
from datamodules.image_captions import ImageCaptions
from datamodules.scenes.dataset import Scenes
from datamodules.tokenizers import Vocabulary
from experiments.exporting import described
from experiments.record import RunRecord
from lightning_modules.clip import CLIP
from lightning_modules.networks.text import TextTransformer
from lightning_modules.networks.towers import TwoTowers
from lightning_modules.networks.vision import ViT
from tests.benchmarks.bench_training_step import Clock

BATCH, WARM_UP, STEPS, ROUNDS, TARGET = 64, 5, 15, 4, 1.0


class Batches:
    """What open_clip's loop asks of its data: batches (images, tokens) of a data set in memory, and their number."""

    def __init__(self, images: torch.Tensor, tokens: torch.Tensor) -> None:
        self.images, self.tokens, self.dataloader, self.begin = images, tokens, self, 0.0
        self.num_batches, self.num_samples = WARM_UP + STEPS, BATCH * (WARM_UP + STEPS)

    def set_epoch(self, epoch: int) -> None:
        pass

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for step in range(self.num_batches):
            if step == WARM_UP:
                self.begin = time.process_time()
            rows = torch.randint(len(self.images), (BATCH,))
            yield self.images[rows].float().div_(127.5).sub_(1), self.tokens[rows]


def optimizer(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.AdamW(parameters, lr=1e-3, weight_decay=0.1, fused=True)


def model(tokenizer: Vocabulary) -> CLIP:
    torch.manual_seed(0)
    text = TextTransformer(tokenizer.num_tokens, tokenizer.context_length, width=64, depth=2)
    return CLIP(TwoTowers(ViT(patch_size=8, depth=3), text, 64), optimizer=optimizer)


def ours(data: ImageCaptions, folder: Path) -> float:
    clock = Clock()
    clock.begin = 0.0
    trainer = Trainer(max_steps=WARM_UP + STEPS, accelerator="cpu", logger=RunRecord(folder, experiment="bench"), log_every_n_steps=20,
                      callbacks=[TrainingProgress("bench", quiet=True), clock], check_val_every_n_epoch=None, num_sanity_val_steps=0,
                      limit_val_batches=0, default_root_dir=folder, enable_checkpointing=False, enable_progress_bar=False,
                      enable_model_summary=False)
    trainer.fit(model(data.tokenizer), datamodule=data)
    return clock.seconds / STEPS


def theirs(batches: Batches, tokenizer: Vocabulary) -> float:
    config, weights = described(model(tokenizer), tokenizer)
    network = open_clip.CLIP(**config["model_cfg"], output_dict=True)
    network.load_state_dict(weights)
    decays = [parameter for parameter in network.parameters() if parameter.ndim > 1]
    plain = [parameter for parameter in network.parameters() if parameter.ndim <= 1]
    settings = Namespace(device="cpu", precision="fp32", distill=False, accum_freq=1, skip_scheduler=True, horovod=False, rank=0,
                         local_rank=0, world_size=1, grad_clip_norm=None, log_every_n_steps=20, batch_size=BATCH, wandb=False)
    train_one_epoch(network, {"train": batches}, ClipLoss(), 0, optimizer([{"params": decays}, {"params": plain, "weight_decay": 0.0}]),
                    None, None, None, settings)
    return (time.process_time() - batches.begin) / STEPS


def measure() -> list[dict[str, Any]]:
    """One row: pictures a second of both sides; it holds if ours are as many and the control did not drift."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    control = torch.randn(600, 600)
    seconds: dict[str, list[float]] = {"ours": [], "theirs": [], "control": []}
    try:
        with tempfile.TemporaryDirectory() as folder:
            scenes = Scenes(num_train=BATCH * (WARM_UP + STEPS), num_validation=BATCH, num_test=BATCH)
            data = ImageCaptions(scenes, image_size=32, batch_size=BATCH, tokenizer=Vocabulary(32))
            data.prepare_data()
            data.setup("fit")
            tokens, _ = data.tokenizer([texts[0] for texts in data.captions("train")])
            batches = Batches(torch.from_numpy(data.images("train").copy()), tokens)
            for number in range(ROUNDS):
                begin = time.process_time()
                for _ in range(20):
                    control @ control
                seconds["control"].append(time.process_time() - begin)
                seconds["ours"].append(ours(data, Path(folder) / str(number)))
                seconds["theirs"].append(theirs(batches, data.tokenizer))
    finally:
        torch.set_num_threads(threads)
    own, other = (BATCH / min(seconds[side]) for side in ("ours", "theirs"))
    steady = max(seconds["control"]) <= 1.25 * min(seconds["control"])
    return [{"what": "training CLIP, pictures a second, against open_clip's own loop", "ours": own, "theirs": other, "ratio": own / other,
             "target": TARGET, "holds": own >= TARGET * other if steady else None}]


if __name__ == "__main__":
    for row in measure():
        print(row)
