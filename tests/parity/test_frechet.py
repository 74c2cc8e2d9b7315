"""Fréchet distance and KID against torchmetrics and scipy on the same features."""

import numpy as np
import pytest
import scipy.linalg
import torch
from torch import Tensor
from torchmetrics.image.fid import _compute_fid
from torchmetrics.image.kid import poly_mmd

from callbacks.frechet import Gaussian, RunningGaussian, frechet_distance, kernel_distance, polynomial_mmd


def features(num: int, dim: int, seed: int, shift: float = 0.0) -> Tensor:
    """Correlated, skewed features like those of a network after its last ReLU and pooling."""
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(dim, dim, generator=torch.Generator().manual_seed(99)) / dim**0.5
    scales = torch.logspace(0, -1.5, dim)
    return (torch.randn(num, dim, generator=generator) * scales @ mix + shift).relu().sqrt()


def by_torchmetrics(x: Tensor, y: Tensor) -> float:
    x, y = x.double(), y.double()
    return _compute_fid(x.mean(0), x.T.cov(), y.mean(0), y.T.cov()).item()


def by_scipy(x: Tensor, y: Tensor) -> float:
    x_, y_ = x.double().numpy(), y.double().numpy()
    sigma_x, sigma_y = np.cov(x_, rowvar=False), np.cov(y_, rowvar=False)
    root = scipy.linalg.sqrtm(sigma_x @ sigma_y)
    return float(((x_.mean(0) - y_.mean(0)) ** 2).sum() + np.trace(sigma_x + sigma_y - 2 * root.real))


@pytest.mark.parametrize("dim", [16, 128, 400])
def test_many_samples(dim):
    x, y = features(3 * dim, dim, 0), features(5 * dim, dim, 1, shift=0.1)
    ours = frechet_distance(Gaussian.fit(x), Gaussian.fit(y))
    assert ours == pytest.approx(by_torchmetrics(x, y), rel=1e-6)
    assert ours == pytest.approx(by_scipy(x, y), rel=1e-6)


@pytest.mark.parametrize("sizes", [(60, 90), (60, 900), (900, 60), (256, 256), (257, 255)])
def test_fewer_samples_than_dimensions(sizes):
    x, y = features(sizes[0], 256, 0), features(sizes[1], 256, 1, shift=0.1)
    ours = frechet_distance(Gaussian.fit(x), Gaussian.fit(y))
    assert ours == pytest.approx(by_torchmetrics(x, y), rel=1e-6)


def test_singular_covariance():
    """Dead features: the covariance has zero rows, and Cholesky fails."""
    x, y = features(500, 64, 0), features(500, 64, 1, shift=0.1)
    x[:, 5:9], y[:, 7:12] = 0.0, 0.25
    ours = frechet_distance(Gaussian.fit(x), Gaussian.fit(y))
    assert ours == pytest.approx(by_torchmetrics(x, y), rel=1e-6)
    assert ours == pytest.approx(frechet_distance(Gaussian.fit(y), Gaussian.fit(x)), rel=1e-6)


def test_golden_numbers():
    # Two Gaussians on a line: (m1 - m2)^2 + (s1 - s2)^2; here 3^2 + (2 - 5)^2.
    one = Gaussian(9, torch.tensor([1.0]).double(), covariance=torch.tensor([[4.0]]).double())
    other = Gaussian(9, torch.tensor([4.0]).double(), covariance=torch.tensor([[25.0]]).double())
    assert frechet_distance(one, other) == pytest.approx(18.0, rel=1e-12)
    assert frechet_distance(one, one) == 0.0
    # Commuting covariances diag(1, 4, 9), diag(4, 4, 1): (1-2)^2 + 0 + (3-1)^2 = 5.
    zero = torch.zeros(3).double()
    one = Gaussian(9, zero, covariance=torch.diag(torch.tensor([1.0, 4.0, 9.0]).double()))
    other = Gaussian(9, zero, factor=torch.diag(torch.tensor([2.0, 2.0, 1.0]).double()))
    assert frechet_distance(one, other) == pytest.approx(5.0, rel=1e-12)


def test_equal_sets_are_at_no_distance():
    for num in (50, 500):
        x = features(num, 100, 0)
        assert frechet_distance(Gaussian.fit(x), Gaussian.fit(x.clone())) < 1e-6


def test_running_statistics_are_those_of_the_whole():
    x = features(1000, 40, 0) + 1000  # a large mean is where float32 sums fail
    running = RunningGaussian(40)
    for batch in x.split([1, 299, 33, 667]):
        running.update(batch)
    assert running.num == 1000
    assert torch.allclose(running.gaussian().mean, x.double().mean(0), rtol=1e-12)
    assert torch.allclose(running.gaussian().covariance, x.double().T.cov(), rtol=1e-9, atol=1e-12)


def test_kid_is_that_of_torchmetrics_and_torch_fidelity_on_the_same_subset():
    from torch_fidelity.metric_kid import kernel_mmd

    x, y = features(300, 64, 0), features(300, 64, 1, shift=0.1)
    ours = polynomial_mmd(x, y).item()
    assert ours == pytest.approx(poly_mmd(x.double(), y.double()).item(), rel=1e-5)
    assert ours == pytest.approx(kernel_mmd(x.double().numpy(), y.double().numpy()), rel=1e-5)
    # the library's unequal sets are not defined; ours are, and agree with the mean over the pairs
    assert polynomial_mmd(x[:200], y).item() == pytest.approx(ours, rel=0.5)


def test_kid_by_subsets():
    x, y = features(400, 32, 0), features(400, 32, 1, shift=0.1)
    mean, deviation = kernel_distance(x, y, num_subsets=50, subset_size=100)
    assert (mean, deviation) == kernel_distance(x, y, num_subsets=50, subset_size=100)
    generator = torch.Generator().manual_seed(0)
    theirs = [
        poly_mmd(
            x[torch.randperm(400, generator=generator)[:100]].double(),
            y[torch.randperm(400, generator=generator)[:100]].double(),
        ).item()
        for _ in range(50)
    ]
    assert mean == pytest.approx(np.mean(theirs), rel=1e-4)
    assert deviation == pytest.approx(np.std(theirs), rel=1e-4)
    assert kernel_distance(x, y, subset_size=400) == (pytest.approx(polynomial_mmd(x, y).item()), 0.0)


def test_unbiased_kid_of_one_distribution_is_near_zero():
    values = [polynomial_mmd(features(80, 16, 2 * i), features(80, 16, 2 * i + 1)).item() for i in range(200)]
    assert abs(np.mean(values)) < 3 * np.std(values) / 200**0.5


def test_nan_and_too_few_are_errors():
    x = features(10, 4, 0)
    with pytest.raises(ValueError, match="at least 2 features, not 1"):
        Gaussian.fit(x[:1])
    x[3, 2] = float("nan")
    with pytest.raises(ValueError, match="NaN or infinite"):
        Gaussian.fit(x)
    with pytest.raises(ValueError, match="at least 2 features on each side"):
        kernel_distance(x[:1], x)
