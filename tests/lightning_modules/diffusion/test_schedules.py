"""The golden values of every schedule (computed independently in float64), the clock between steps, and refusals."""

import pytest
import torch
from torch import Tensor

from lightning_modules.diffusion.schedules import (
    Cosine,
    LinearBetas,
    OffsetCosine,
    RectifiedFlow,
    ScaledLinearBetas,
    Schedule,
    Sigmoid,
    ZeroTerminalSNR,
)

# alpha-bar at T/4, T/2, 3T/4 and T, and the share of the steps in which it is below .01
GOLDEN: list[tuple[Schedule, list[float], float, float]] = [
    (LinearBetas(), [0.524085, 0.078587, 0.003351], 4.0358e-5, 0.327),
    (ScaledLinearBetas(1000, 1e-4, 2e-2), [0.821521, 0.333188, 0.038606], 7.3341e-4, 0.150),  # CompVis' "linear"
    (ScaledLinearBetas(), [0.675432, 0.277670, 0.056623], 4.6601e-3, 0.067),
    (Cosine(), [0.847012, 0.493844, 0.144272], 2.4288e-9, 0.065),
    (Sigmoid(), [0.850854, 0.500000, 0.149146], 3.0028e-7, 0.031),
    (OffsetCosine(), [0.656836, 0.353406, 0.103970], 4e-4, 0.066),
    (RectifiedFlow(), [0.75**2, 0.5**2, 0.25**2], 0.0, 0.1),
]
EVERY = [schedule for schedule, *_ in GOLDEN] + [ZeroTerminalSNR(LinearBetas()), Cosine(10), LinearBetas(7)]


def steps(num: int) -> Tensor:
    return torch.arange(1, num + 1, dtype=torch.float64) / num


@pytest.mark.parametrize(("schedule", "quarters", "end", "share"), GOLDEN, ids=lambda value: str(value)[:20])
def test_golden_alpha_bars(schedule: Schedule, quarters: list[float], end: float, share: float) -> None:
    alpha_bars = schedule.levels(steps(1000))[0] ** 2
    assert alpha_bars[[249, 499, 749]].tolist() == pytest.approx(quarters, abs=1e-6)
    assert alpha_bars[-1].item() == pytest.approx(end, rel=1e-4)
    assert (alpha_bars < 0.01).double().mean().item() == pytest.approx(share, abs=1.5e-3)


@pytest.mark.parametrize("schedule", EVERY, ids=str)
def test_noise_only_grows(schedule: Schedule) -> None:
    alpha, sigma = schedule.levels(torch.linspace(0, 1, 3001, dtype=torch.float64))
    assert (alpha.diff() < 0).all() and (sigma.diff() > 0).all()
    assert (sigma[-1] ** 2 + alpha[-1] ** 2).item() == pytest.approx(1)


@pytest.mark.parametrize("schedule", EVERY, ids=str)
def test_clean_at_zero(schedule: Schedule) -> None:
    alpha, sigma = schedule(torch.zeros(1))
    expected = (0.95, 0.3122499) if isinstance(schedule, OffsetCosine) else (1.0, 0.0)  # the book's cleanest has noise
    assert (alpha.item(), sigma.item()) == pytest.approx(expected)


def test_between_two_steps_alpha_bar_is_linear() -> None:
    schedule = LinearBetas(10, 0.1, 0.3)
    alpha, sigma = schedule.levels(torch.tensor([0.25, 0.05], dtype=torch.float64))
    assert (alpha**2).tolist() == pytest.approx([(0.9 * (0.9 - 1 / 45) * (1 + 0.9 - 2 / 45)) / 2, 0.95])
    assert (alpha**2 + sigma**2).tolist() == pytest.approx([1, 1])


def test_like_shapes_the_result_and_float32_is_the_floor() -> None:
    t = torch.rand(5)
    for like, dtype in [(torch.ones(5, 3, 8, 8), torch.float32), (torch.ones(5, 3, 8, 8).half(), torch.float32)]:
        alpha, sigma = Cosine()(t, like=like)
        assert alpha.shape == sigma.shape == (5, 1, 1, 1) and alpha.dtype == sigma.dtype == dtype
    alpha, sigma = Cosine()(t.reshape(5, 1))
    assert alpha.shape == (5, 1) and alpha.dtype == torch.float32
    assert Cosine()(t.double())[0].dtype == torch.float64


def test_little_noise_keeps_its_digits() -> None:
    _, sigma = LinearBetas()(torch.tensor([0.001, 0.0005]))
    assert sigma.tolist() == pytest.approx([1e-2, 5e-5**0.5], rel=1e-5)


def test_zero_terminal_snr_keeps_the_first_step() -> None:
    inner = ScaledLinearBetas()
    alpha, sigma = ZeroTerminalSNR(inner).levels(steps(1000))
    assert alpha[0].item() == pytest.approx(inner.levels(steps(1000))[0][0].item(), abs=1e-12)
    assert (alpha[-1].item(), sigma[-1].item()) == (0, 1)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: LinearBetas(1000, 1e-4, 1.2).alpha_bars, "between 0 and 1"),
        (lambda: Cosine(0).alpha_bars, "num_steps=0"),
        (lambda: ZeroTerminalSNR(RectifiedFlow()), "already"),
    ],
)
def test_refusals_are_one_line(make, words: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=words) as refusal:
        make()
    assert "\n" not in str(refusal.value)
