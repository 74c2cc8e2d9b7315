"""The sigmoid loss in chunks: peak memory against the whole matrix and against open_clip's, and its time.

Memory: each side runs loss and backward in a process of its own, on width 512; its peak resident set (getrusage), less that before
the pass, when torch, the inputs and a pass over 64 rows were there. Gradients of image and text count, being made by the pass.
open_clip cuts the matrix only between processes, one block for each; here its `SigLipLoss` goes over the same blocks in a single
process, with its own function for a block. Time: CPU seconds of loss and backward, one thread, minimum of interleaved rounds,
against the faster of open_clip's whole matrix and blocks.

Run alone: python -m tests.benchmarks.bench_contrastive_memory
"""

import resource
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from lightning_modules.losses.contrastive import siglip_loss

WIDTH, CHUNK, LARGE, SMALL, ROUNDS = 512, 256, 16384, 4096, 3


def inputs(num: int) -> list[Tensor]:
    """Image and text [num, 512], scale and bias, all of which want a gradient."""
    generator = torch.Generator().manual_seed(0)
    drawn = [F.normalize(torch.randn(num, WIDTH, generator=generator), dim=1) for _ in range(2)]
    return [tensor.requires_grad_() for tensor in (*drawn, torch.tensor(10.0), torch.tensor(-10.0))]


def in_chunks(image: Tensor, text: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    return siglip_loss(image, text, scale, bias, chunk=CHUNK)


def open_clip_whole(image: Tensor, text: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    from open_clip.loss import SigLipLoss

    return SigLipLoss()(image, text, scale, bias)


def open_clip_in_blocks(image: Tensor, text: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """What its processes add up, one after the other: blocks of CHUNK pairs, positives in those on the diagonal only."""
    from open_clip.loss import SigLipLoss

    loss = SigLipLoss()
    blocks = [loss._loss(x, y, scale, bias, negative_only=i != j)
              for i, x in enumerate(image.split(CHUNK)) for j, y in enumerate(text.split(CHUNK))]
    return torch.stack(blocks).sum() * CHUNK / len(image)


SIDES: dict[str, Callable[..., Tensor]] = {
    "chunks": in_chunks, "whole": siglip_loss, "open_clip whole": open_clip_whole, "open_clip blocks": open_clip_in_blocks}


def peak() -> float:
    """The largest resident set so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def pass_once(side: str, tensors: list[Tensor]) -> float:
    """The loss, after backward."""
    for tensor in tensors:
        tensor.grad = None
    loss = SIDES[side](*tensors)
    loss.backward()
    return loss.item()


def report(side: str, num: int) -> None:
    """In a process of its own: prints the loss and the megabytes that a pass took."""
    torch.set_num_threads(1)
    tensors = inputs(num)
    pass_once(side, inputs(64) if side != "open_clip blocks" else inputs(CHUNK))
    before = peak()
    loss = pass_once(side, tensors)
    print(loss, peak() - before)


def megabytes(side: str, num: int) -> tuple[float, float]:
    """The loss of a side at this batch size, and the memory it took."""
    command = [sys.executable, "-m", "tests.benchmarks.bench_contrastive_memory", side, str(num)]
    loss, taken = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    return float(loss), float(taken)


def measure() -> list[dict[str, Any]]:
    """Rows {"what", "ours", "theirs", "ratio", "target", "holds"}: megabytes and seconds."""
    rows = []
    for num, side, what, target in [(LARGE, "whole", "the whole matrix", 20.0), (SMALL, "open_clip blocks", "open_clip's in blocks", 3.0),
                                    (SMALL, "open_clip whole", "open_clip's whole matrix", 3.0)]:
        (our_loss, ours), (their_loss, theirs) = megabytes("chunks", num), megabytes(side, num)
        equal = abs(our_loss - their_loss) <= 1e-5 * abs(their_loss)
        rows.append({"what": f"sigmoid loss of {num} pairs in MB, against {what}", "ours": ours, "theirs": theirs, "ratio": theirs / ours,
                     "target": target, "holds": equal and theirs >= target * ours})
    return [*rows, timed()]


def timed() -> dict[str, Any]:
    """CPU seconds of a pass; it holds if ours takes at most 1.6 times as long."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    seconds: dict[str, list[float]] = {"control": [], "chunks": [], "open_clip whole": [], "open_clip blocks": []}
    tensors, control = inputs(SMALL), torch.randn(1500, 1500)
    try:
        for _ in range(ROUNDS):
            for side, taken in seconds.items():
                begin = time.process_time()
                if side == "control":
                    control @ control
                else:
                    pass_once(side, tensors)
                taken.append(time.process_time() - begin)
    finally:
        torch.set_num_threads(threads)
    ours, theirs = min(seconds["chunks"]), min(*seconds["open_clip whole"], *seconds["open_clip blocks"])
    steady = max(seconds["control"]) <= 1.25 * min(seconds["control"])
    return {"what": f"sigmoid loss of {SMALL} pairs in s, against the faster of open_clip's", "ours": ours, "theirs": theirs,
            "ratio": ours / theirs, "target": 1.6, "holds": ours <= 1.6 * theirs if steady else None}


if __name__ == "__main__":
    if len(sys.argv) == 3:
        report(sys.argv[1], int(sys.argv[2]))
    else:
        for row in measure():
            print(row)
