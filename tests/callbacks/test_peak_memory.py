"""The memory of a training step, held against tensors of known size, and against the losses that it is to tell apart."""

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from callbacks.peak_memory import PeakMemory, peak_of
from lightning_modules.losses.contrastive import siglip_loss
from tests.callbacks.tiny import Record, TinyData, TinyModel, trainer

MEBIBYTE = 2**18  # float32 numbers


class Hungry(TinyModel):
    """Holds `num` MiB in the first step, and twice as many for a moment in each other."""

    def __init__(self, num: int) -> None:
        super().__init__()
        self.num, self.steps = num, 0

    def training_step(self, batch, batch_idx):
        first = torch.ones(self.num * MEBIBYTE)
        again = first + 1 if self.steps else first
        self.steps += 1
        return super().training_step(batch, batch_idx) + 0 * again[0]


def test_the_second_step_is_measured():
    record = Record()
    trainer([PeakMemory()], logger=record, num_sanity_val_steps=0).fit(Hungry(8), datamodule=TinyData())
    measured = [metrics["val/step_memory_mb"] for _, metrics in record.metrics if "val/step_memory_mb" in metrics]
    assert measured == [pytest.approx(16, abs=0.1)]
    assert record.about["val/step_memory_mb"][0]["of"] == "the second step of training"


def test_the_peak_is_that_of_one_moment():
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True, acc_events=False) as profiled:
        first = torch.ones(4 * MEBIBYTE)
        del first
        second = torch.ones(3 * MEBIBYTE)
        third = second + second
        del second, third
    assert peak_of(profiled) / 2**20 == pytest.approx(6, abs=0.01)


def test_the_sigmoid_loss_in_chunks_is_linear_and_the_whole_quadratic():
    def peak(num: int, chunk: int | None) -> float:
        image, text = (torch.randn(num, 32).requires_grad_() for _ in range(2))
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True, acc_events=False) as profiled:
            siglip_loss(image, text, 10.0, -10.0, chunk=chunk).backward()
        return peak_of(profiled)

    assert peak(2000, None) > 3.8 * peak(1000, None)
    assert peak(2000, 16) < 2.1 * peak(1000, 16)
    assert peak(2000, None) > 30 * peak(2000, 16)
