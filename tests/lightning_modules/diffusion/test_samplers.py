"""What the samplers compute: published formulas, exact spreads, equalities among them, and one image per generator."""

import math
from itertools import pairwise, product

import pytest
import torch
from torch import Tensor

from lightning_modules.diffusion.exact import GaussianDenoiser, PointsDenoiser, final_std
from lightning_modules.diffusion.parameterizations import Velocity
from lightning_modules.diffusion.samplers import (
    DDIM,
    Ancestral,
    DPMSolverPP2M,
    Euler,
    EulerAncestral,
    Heun,
    Level,
    Sampler,
    Spacing,
    spaced,
)
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

SAMPLERS: list[Sampler] = [Ancestral(), DDIM(), DDIM(0.5), Euler(), EulerAncestral(), Heun(), DPMSolverPP2M()]
SCHEDULES: list[Schedule] = [
    LinearBetas(),
    ScaledLinearBetas(),
    Cosine(),
    Sigmoid(),
    RectifiedFlow(),
    ZeroTerminalSNR(LinearBetas()),
]
SPACINGS: list[Spacing] = ["leading", "trailing", "linspace"]
every_sampler = pytest.mark.parametrize("sampler", SAMPLERS, ids=str)
every_schedule = pytest.mark.parametrize("schedule", SCHEDULES, ids=str)


def generators(seeds: range) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


@pytest.mark.parametrize(
    ("schedule", "deterministic", "stochastic"),
    [(LinearBetas(), [0.3616, 0.4719, 0.4943], 0.4432), (Cosine(), [0.4211, 0.4845, 0.4969], 0.4672)],
    ids=str,
)
def test_golden_spreads_of_ddim(schedule: Schedule, deterministic: list[float], stochastic: float) -> None:
    spreads = [final_std(DDIM(spacing="linspace"), schedule, num_steps, 0.5) for num_steps in (10, 50, 250)]
    assert spreads == pytest.approx(deterministic, abs=1e-4)
    assert final_std(DDIM(eta=1.0, spacing="linspace"), schedule, 50, 0.5) == pytest.approx(stochastic, abs=1e-4)


@every_sampler
@every_schedule
def test_the_spread_of_the_data_comes_back(sampler: Sampler, schedule: Schedule) -> None:
    assert final_std(sampler, schedule, 250, 0.5) == pytest.approx(0.5, abs=0.015)
    assert final_std(sampler, schedule, 250, 2.0) == pytest.approx(2.0, abs=0.025)  # scaled_linear ends at alpha = .07


def test_the_offset_schedule_stops_short_of_clean() -> None:
    """Its last denoising is from alpha = .95: the images are posterior means, with less spread than the data."""
    kept = 0.5 * math.sqrt(0.95**2 * 0.25 / (0.95**2 * 0.25 + 1 - 0.95**2))
    assert final_std(DDIM(), OffsetCosine(), 1000, 0.5) == pytest.approx(kept, abs=3e-3)


@every_schedule
def test_second_order_pays(schedule: Schedule) -> None:
    for std in (0.25, 0.5, 1.5):
        first = abs(final_std(Euler(), schedule, 40, std) - std)
        assert abs(final_std(Heun(), schedule, 40, std) - std) < 0.9 * first
        assert abs(final_std(DPMSolverPP2M(), schedule, 40, std) - std) < 0.9 * first


@every_schedule
@pytest.mark.parametrize("spacing", SPACINGS)
def test_three_names_for_the_posterior_and_two_for_the_ode(schedule: Schedule, spacing: Spacing) -> None:
    def numbers(sampler: Sampler) -> list[float]:
        return [value for step in sampler.chain(schedule, 20) for value in step]

    assert numbers(DDIM(1.0, spacing)) == pytest.approx(numbers(Ancestral(spacing)), abs=1e-7)
    assert numbers(EulerAncestral(spacing)) == pytest.approx(numbers(Ancestral(spacing)), abs=1e-7)
    assert numbers(DDIM(0.0, spacing)) == pytest.approx(numbers(Euler(spacing)), abs=1e-12)


def test_ancestral_is_the_ddpm_posterior() -> None:
    """Eq. 7 of the DDPM paper, written with betas."""
    betas = torch.linspace(1e-4, 2e-2, 1000, dtype=torch.float64)
    after = torch.cumprod(1 - betas, 0)
    before = torch.cat([torch.ones(1, dtype=torch.float64), after[:-1]])
    chain = Ancestral().chain(LinearBetas(), 1000)[::-1]
    x0 = before.sqrt() * betas / (1 - after)
    x = (1 - betas).sqrt() * (1 - before) / (1 - after)
    noise = ((1 - before) / (1 - after) * betas).sqrt()
    assert [step.x0 for step in chain] == pytest.approx(x0.tolist(), rel=1e-9)
    assert [step.x for step in chain] == pytest.approx(x.tolist(), rel=1e-9)
    assert [step.noise for step in chain] == pytest.approx(noise.tolist(), rel=1e-7)


def test_euler_ancestral_golden_step() -> None:
    """From sigma 10 to 5 in k-diffusion's space (alpha = 1): up 4.3301, down 2.5."""
    (step,) = EulerAncestral().steps([Level(0.5, 1.0, 10.0), Level(0.25, 1.0, 5.0)])
    assert step.noise == pytest.approx(4.330127)
    assert step.x * 10 == pytest.approx(2.5)
    assert step.x0 == pytest.approx(0.75)


@pytest.mark.parametrize("spacing", SPACINGS)
def test_euler_on_a_rectified_flow_follows_the_velocity(spacing: Spacing) -> None:
    def velocity(x: Tensor, t: float) -> Tensor:
        return torch.sin(3 * x + t)

    def denoiser(x: Tensor, t: Tensor) -> Tensor:
        return Velocity().x0(velocity(x, t[0].item()), x, 1 - t[:, None], t[:, None])

    noise = torch.randn(4, 5, dtype=torch.float64)
    x = noise
    for t, t_next in pairwise([*spaced(spacing, 12, 1000), 0.0]):
        x = x + (t_next - t) * velocity(x, t)
    image = Euler(spacing)(denoiser, noise, schedule=RectifiedFlow(), num_steps=12)
    assert torch.allclose(image, x, atol=1e-12)


@every_sampler
@every_schedule
def test_chains_begin_at_pure_noise(sampler: Sampler, schedule: Schedule) -> None:
    points = torch.tensor([[-0.8, 0.3], [0.5, 0.9], [0.1, -0.7]])
    noise = torch.randn(200, 2, generator=torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(1)
    for num_steps in (1, 2, 3, 30):
        images = sampler(
            PointsDenoiser(schedule, points), noise, schedule=schedule, num_steps=num_steps, generator=generator
        )
        assert images.isfinite().all()
    nearest = torch.cdist(images, points).min(1)
    assert nearest.values.quantile(0.9) < 0.05
    assert nearest.indices.bincount(minlength=3).min() >= 40


@every_sampler
def test_image_i_is_the_same_in_a_batch_of_1_and_of_64(sampler: Sampler) -> None:
    schedule = Cosine()
    denoiser = GaussianDenoiser(schedule, 0.5)
    noise = torch.randn(64, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    many = sampler(denoiser, noise, schedule=schedule, num_steps=10, generator=generators(range(64)))
    one = sampler(denoiser, noise[17:18], schedule=schedule, num_steps=10, generator=generators(range(17, 18)))
    assert one[0].equal(many[17])


@every_sampler
def test_inputs_and_the_global_generator_stay_as_they_are(sampler: Sampler) -> None:
    noise = torch.randn(2, 3, 4, 4)
    copy, state, seen = noise.clone(), torch.get_rng_state(), []

    def denoiser(x: Tensor, t: Tensor) -> Tensor:
        seen.append((x, x.clone(), t))
        return torch.tanh(x)

    image = sampler(denoiser, noise, schedule=Cosine(), num_steps=5, generator=torch.Generator())
    assert noise.equal(copy) and torch.get_rng_state().equal(state)
    assert all(x.equal(kept) for x, kept, _ in seen)
    assert all(t.shape == (2,) and t.dtype == torch.float32 and t[0] == t[1] for *_, t in seen)
    assert image.dtype == torch.float32 and image.shape == noise.shape
    calls = 2 * 5 - 2 if isinstance(sampler, Heun) else 5  # Heun: not after the last step, nor after pure noise
    assert len(seen) == calls


def test_the_network_is_asked_at_the_published_steps() -> None:
    assert spaced("leading", 5, 10) == [0.9, 0.7, 0.5, 0.3, 0.1]
    assert spaced("trailing", 5, 10) == [1.0, 0.8, 0.6, 0.4, 0.2]
    assert spaced("trailing", 6, 1000) == [1.0, 0.833, 0.667, 0.5, 0.333, 0.167]
    assert spaced("linspace", 4, 10) == [1.0, 0.7, 0.4, 0.1]
    assert [spaced(spacing, 1, 10) for spacing in SPACINGS] == [[0.1], [1.0], [1.0]]
    for spacing, total in product(SPACINGS, (10, 1000)):
        assert spaced(spacing, total, total) == [k / total for k in range(total, 0, -1)]


def test_skipping_the_beginning_of_the_chain() -> None:
    assert spaced("trailing", 10, 1000, start=0.5) == [0.5, 0.4, 0.3, 0.2, 0.1]
    assert spaced("leading", 10, 1000, start=0.5) == [0.401, 0.301, 0.201, 0.101, 0.001]
    assert spaced("linspace", 10, 1000, start=0.5)[0] == 0.5
    for spacing in SPACINGS:
        assert len(spaced(spacing, 7, 1000, start=0.001)) == 1
    seen: list[float] = []

    def denoiser(x: Tensor, t: Tensor) -> Tensor:
        seen.append(round(t[0].item(), 4))
        return x

    Euler()(denoiser, torch.ones(1, 1), schedule=Cosine(), num_steps=10, start=0.3)
    assert seen == [0.3, 0.2, 0.1]


def test_progress_wraps_the_steps() -> None:
    lengths: list[int] = []

    def progress(steps):  # type: ignore[no-untyped-def]
        lengths.append(len(steps))
        return iter(steps)

    DDIM()(lambda x, t: x, torch.ones(1, 1), schedule=Cosine(), num_steps=7, progress=progress)
    assert lengths == [7]


def test_gradients_are_the_callers_choice() -> None:
    noise = torch.ones(1, 1, requires_grad=True)
    Euler()(lambda x, t: x / 2, noise, schedule=Cosine(), num_steps=3).sum().backward()
    assert noise.grad is not None and noise.grad.item() > 0


@pytest.mark.parametrize(
    ("sampler", "num_steps", "start", "words"),
    [
        (Euler(), 0, 1.0, "num_steps=0"),
        (Euler(), 1001, 1.0, "ask for 1 to 1000"),
        (Euler(), 10, 0.0, "start=0.0"),
        (Euler("quadratic"), 10, 1.0, "'quadratic'"),  # type: ignore[arg-type]
    ],
)
def test_refusals(sampler: Sampler, num_steps: int, start: float, words: str) -> None:
    with pytest.raises(ValueError, match=words) as refusal:
        sampler.chain(Cosine(), num_steps, start)
    assert "\n" not in str(refusal.value)
    with pytest.raises(ValueError, match=r"eta=1\.5"):
        DDIM(eta=1.5)
