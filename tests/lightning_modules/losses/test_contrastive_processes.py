"""Two real processes (gloo, DistributedDataParallel) train as one process with all pairs does."""

import os
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, multiprocessing, nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

from lightning_modules.losses.contrastive import clip_loss, gathered, siglip_loss, text_ids

NUM, PROCESSES = 10, 2


class Pair(nn.Module):
    """Two linear towers and the loss of their outputs."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.image, self.text = (nn.Parameter(torch.randn(8, 6, generator=generator, dtype=torch.float64)) for _ in range(2))
        self.scale, self.bias = nn.Parameter(torch.tensor(20.0)), nn.Parameter(torch.tensor(-2.0))
        self.kind = kind

    def forward(self, images: Tensor, texts: Tensor, tokens: Tensor) -> Tensor:
        image, text = gathered(F.normalize(images @ self.image, dim=1)), gathered(F.normalize(texts @ self.text, dim=1))
        targets = text_ids(gathered(tokens)) if "repeated" in self.kind else None
        if self.kind.startswith("softmax"):
            return clip_loss(image, text, self.scale, targets) + 0 * self.bias
        return siglip_loss(image, text, self.scale, self.bias, targets, 3 if "chunks" in self.kind else None)


def data() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    images, texts = (torch.randn(NUM, 8, generator=generator, dtype=torch.float64) for _ in range(2))
    return images, texts, torch.arange(NUM)[:, None] % 7                 # rows 0 and 7 say the same, one in each process


def trained(pair: Pair, model: nn.Module, rows: slice) -> dict[str, Tensor]:
    loss = model(*(part[rows] for part in data()))
    loss.backward()
    return {"loss": loss.detach(), **{name: parameter.grad for name, parameter in pair.named_parameters()}}


def process(rank: int, kinds: list[str], folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=PROCESSES)
    share = NUM // PROCESSES
    found = {}
    for kind in kinds:
        pair = Pair(kind)
        found[kind] = trained(pair, DistributedDataParallel(pair), slice(rank * share, (rank + 1) * share))
    torch.save(found, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def test_two_processes_are_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(os.environ, "GLOO_SOCKET_IFNAME", "lo")
    kinds = ["softmax", "softmax repeated", "sigmoid", "sigmoid in chunks", "sigmoid in chunks repeated"]
    multiprocessing.spawn(process, (kinds, str(tmp_path)), PROCESSES)
    for kind in kinds:
        pair = Pair(kind)
        expected = trained(pair, pair, slice(None))
        for rank in range(PROCESSES):
            found = torch.load(tmp_path / f"{rank}.pt")[kind]
            for name, value in expected.items():
                torch.testing.assert_close(found[name], value, atol=1e-6, rtol=0, msg=lambda m, n=name, k=kind: f"{k}, {n}: {m}")
