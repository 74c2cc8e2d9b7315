import pytest
import torch
from torch import nn

from lightning_modules.ddpm import DDPM
from lightning_modules.diffusion import parameterizations, samplers, schedules, weightings
from lightning_modules.networks.unet import UNet


class Affine(nn.Module):
    """A stand-in network whose output can be written down: 0.3 x_t + t + label."""

    def __init__(self, num_classes: int | None = None) -> None:
        super().__init__()
        self.channels, self.num_classes = 1, num_classes
        self.gain = nn.Parameter(torch.tensor(0.3))

    def forward(self, x, t, label=None):
        shift = t if label is None else t + label
        return self.gain * x + shift[:, None, None, None]


def batch_of(num: int, seed: int = 0) -> dict:
    generator = torch.Generator().manual_seed(seed)
    return {"image": torch.rand(num, 1, 4, 4, generator=generator) * 2 - 1, "label": torch.arange(num) % 3}


TARGETS = {
    parameterizations.Eps: lambda x0, eps, alpha, sigma: eps,
    parameterizations.X0: lambda x0, eps, alpha, sigma: x0,
    parameterizations.V: lambda x0, eps, alpha, sigma: alpha * eps - sigma * x0,
    parameterizations.Velocity: lambda x0, eps, alpha, sigma: eps - x0,
}


@pytest.mark.parametrize("kind", TARGETS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("weighting", [weightings.Uniform(), weightings.MinSNR(5.0)], ids=repr)
def test_loss_equals_a_slow_loop(kind, weighting):
    model = DDPM(Affine(num_classes=3), schedules.Cosine(), parameterization=kind(), weighting=weighting, label_dropout=0.5)
    batch = batch_of(6)
    torch.manual_seed(7)
    loss = model.losses(batch)["loss"].item()

    torch.manual_seed(7)
    t = 1 - torch.rand(6)
    eps = torch.randn(6, 1, 4, 4)
    label = torch.where(torch.rand(6) < 0.5, torch.tensor(3), batch["label"])
    total = 0.0
    for i in range(6):
        alpha_bar = schedules.Cosine()(t[i:i + 1])[0].item() ** 2
        alpha, sigma = alpha_bar**0.5, (1 - alpha_bar) ** 0.5
        x0, noise = batch["image"][i], eps[i]
        output = 0.3 * (alpha * x0 + sigma * noise) + t[i] + label[i]
        weight = weighting(torch.tensor([alpha]), torch.tensor([sigma]), kind()).item()
        total += weight * (output - TARGETS[kind](x0, noise, alpha, sigma)).square().mean().item() / 6
    assert loss == pytest.approx(total, rel=2e-4)


def test_label_is_dropped_for_its_share():
    model = DDPM(Affine(num_classes=3), schedules.Cosine(), label_dropout=0.2)
    torch.manual_seed(0)
    dropped = model.dropped({"image": torch.zeros(20_000, 1, 1, 1), "label": torch.ones(20_000, dtype=torch.long)})
    assert set(dropped.tolist()) == {1, 3}
    assert (dropped == 3).float().mean().item() == pytest.approx(0.2, abs=0.01)


def network(num_classes: int | None = 3) -> UNet:
    torch.manual_seed(0)
    unet = UNet(channels=1, num_classes=num_classes, width=8, multipliers=(1, 2))
    for parameter in unet.parameters():
        nn.init.normal_(parameter, std=0.1)
    return unet.eval()


@pytest.mark.parametrize("sampler", [samplers.DDIM(), samplers.Ancestral(), samplers.EulerAncestral()], ids=repr)
@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_image_i_is_the_same_in_a_batch_of_1_and_of_64(sampler, guidance):
    model = DDPM(network(), schedules.Cosine(), image_size=8, sampler=sampler, num_sampling_steps=5, guidance=guidance)

    def generators(*seeds):
        return [torch.Generator().manual_seed(seed) for seed in seeds]

    many = model.sample({"label": torch.arange(64) % 3}, generator=generators(*range(64)))
    one = model.sample({"label": torch.tensor([41 % 3])}, generator=generators(41))
    torch.testing.assert_close(many[41:42], one, atol=1e-4, rtol=1e-4)
    assert many.shape == (64, 1, 8, 8)
    assert many.abs().max() <= 1


def test_sampling_and_metrics_leave_the_global_generator_alone():
    model = DDPM(network(), schedules.LinearBetas(), image_size=8, sampler=samplers.Ancestral(), num_sampling_steps=3)
    before = torch.get_rng_state()
    one_each = [torch.Generator().manual_seed(seed) for seed in range(2)]
    batch = {"image": torch.zeros(2, 1, 8, 8), "label": torch.tensor([0, 1])}
    model.sample(batch, generator=one_each)
    model.denoising_path(batch, generator=one_each, num_frames=3)
    model.loss_at(batch, torch.tensor([0.2, 0.9]), generator=one_each)
    model.bits_by_term(batch, num_terms=2, generator=one_each)
    assert torch.equal(before, torch.get_rng_state())


def test_noising_ends():
    model = DDPM(network(), schedules.Cosine())
    images = batch_of(2)["image"]
    torch.testing.assert_close(model.noising(images, torch.zeros(2)), images)
    noise = model.noising(images, torch.ones(2), generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(noise, torch.randn(2, 1, 4, 4, generator=torch.Generator().manual_seed(3)), atol=1e-3, rtol=1e-3)


def test_loss_at_is_the_error_of_the_noise_whatever_is_predicted():
    class Knows(nn.Module):
        channels, num_classes = 1, None

        def forward(self, x, t, label=None):
            return torch.full_like(x, 0.25)

    batch, t = batch_of(2), torch.tensor([0.3, 0.7])
    by_x0 = DDPM(Knows(), schedules.Cosine(), parameterization=parameterizations.X0())
    noise = torch.randn(2, 1, 4, 4, generator=torch.Generator().manual_seed(5))
    alpha, sigma = schedules.Cosine()(t, like=noise)
    x_t = alpha * batch["image"] + sigma * noise
    expected = ((x_t - alpha * 0.25) / sigma - noise).square().flatten(1).mean(1)
    torch.testing.assert_close(by_x0.loss_at(batch, t, generator=torch.Generator().manual_seed(5)), expected, atol=1e-5, rtol=1e-4)


def test_unconditional_needs_no_label():
    model = DDPM(network(num_classes=None), schedules.Cosine(), image_size=8, num_sampling_steps=2)
    assert model.losses({"image": batch_of(3)["image"].repeat(1, 1, 2, 2)})["loss"].isfinite()
    assert model.sample({"image": torch.zeros(3, 1, 8, 8)}).shape == (3, 1, 8, 8)


def test_path_ends_at_what_is_sampled():
    model = DDPM(network(), schedules.Cosine(), image_size=8, num_sampling_steps=6)
    batch = {"label": torch.tensor([0, 1])}
    seeds = [[torch.Generator().manual_seed(seed) for seed in range(2)] for _ in range(2)]
    path = model.denoising_path(batch, generator=seeds[0], num_frames=4)
    assert path.shape == (4, 2, 1, 8, 8)
    torch.testing.assert_close(path[-1], model.sample(batch, generator=seeds[1]))


@pytest.mark.parametrize("schedule", [schedules.RectifiedFlow(), schedules.ZeroTerminalSNR(schedules.LinearBetas())], ids=repr)
def test_noise_is_not_predicted_where_nothing_else_is_left(schedule):
    with pytest.raises(ValueError, match=r"--model\.parameterization V"):
        DDPM(network(), schedule)
    assert DDPM(network(), schedule, parameterization=parameterizations.V()).losses(
        {"image": torch.zeros(2, 1, 8, 8), "label": torch.tensor([0, 1])})["loss"].isfinite()
