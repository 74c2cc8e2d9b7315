"""Socher's regression and gate against loops and closed forms."""

import math

import pytest
import torch
from torch.nn import functional as F

from lightning_modules.networks.conv import ConvNet
from lightning_modules.socher import Socher
from tests.lightning_modules.words import coloured, words


@pytest.fixture
def model(tmp_path):
    torch.manual_seed(0)
    return Socher(ConvNet(num_classes=4, width=4, dropout=0.0), words(tmp_path), unseen=["bee", "dog"], hidden=6).eval()


def batch(label: list[int]) -> dict:
    return {"image": torch.randn(len(label), 3, 8, 8), "label": torch.tensor(label)}


def test_loss_is_the_regression_of_the_paper_and_a_softmax_of_the_seen(model):
    given = batch([0, 2, 1, 2, 3])                          # rows 2 and 4 are of unseen classes: no loss
    losses = model.losses(given)
    regression = softmax = 0.0
    with torch.no_grad():
        features = model.network.features(given["image"])
        for row, label in ((0, 0), (1, 2), (3, 2)):
            x = features[row]
            mapped = model.theta2.weight @ torch.tanh(model.theta1.weight @ x)
            regression += float((model.words()[label] - mapped).pow(2).sum()) / 3
            logits = model.network.head(features[row : row + 1])[0]
            softmax += float(-logits[label] + torch.logsumexp(logits[[0, 2]], 0)) / 3
    assert float(losses["regression"]) == pytest.approx(regression, rel=1e-5)
    assert float(losses["softmax"]) == pytest.approx(softmax, rel=1e-5)
    assert float(losses["loss"]) == pytest.approx(regression + softmax, rel=1e-5)


def test_a_batch_of_unseen_classes_alone_says_nothing(model):
    assert float(model.losses(batch([1, 3, 3]))["loss"].detach()) == 0


def test_the_spread_settles_at_that_of_the_class(model):
    given = batch([0, 0, 2])
    with torch.no_grad():
        distance = (model.words()[given["label"]] - model.embed(given["image"])).square().sum(1)
    before = model.spread.clone()
    for _ in range(600):
        model.update(distance, given["label"])
    torch.testing.assert_close(model.spread[[0, 2]], torch.stack([distance[:2].mean(), distance[2]]) / 3, rtol=1e-4, atol=0)
    assert torch.equal(model.spread[[1, 3]], before[[1, 3]])
    model.losses(given)
    assert torch.equal(model.spread[[1, 3]], before[[1, 3]]), "only training moves it"


def test_scores_and_novelty_by_hand(model):
    images = torch.randn(5, 3, 8, 8)
    model.spread.copy_(torch.tensor([0.3, 9.0, 0.7, 9.0]))
    scores, novelty = model.recognise(images)
    with torch.no_grad():
        mapped, logits = model.embed(images), model.network.head(model.network.features(images))
    for row in range(5):
        square = [float((mapped[row] - word).pow(2).sum()) for word in model.words()]
        density = [math.exp(-square[y] / (2 * s)) / (2 * math.pi * s) ** 1.5 for y, s in ((0, 0.3), (2, 0.7))]
        assert float(novelty[row]) == pytest.approx(-math.log(max(density)), rel=1e-4)
        total = math.log(sum(math.exp(float(logits[row, y])) for y in (0, 2)))
        expected = [float(logits[row, 0]) - total, -square[1], float(logits[row, 2]) - total, -square[3]]
        assert scores[row].tolist() == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_the_density_is_that_of_an_isotropic_gaussian(model):
    spread = float(model.spread[0])
    model.seen.copy_(torch.tensor([True, False, False, False]))
    _, novelty = model.recognise(images := torch.randn(3, 3, 8, 8))
    gaussian = torch.distributions.MultivariateNormal(model.words()[0], spread * torch.eye(3))
    with torch.no_grad():
        torch.testing.assert_close(-novelty, gaussian.log_prob(model.embed(images)), rtol=1e-4, atol=1e-4)


def test_learns_the_seen_and_finds_the_unseen_on_the_way_between(tmp_path):
    torch.manual_seed(1)
    model = Socher(ConvNet(num_classes=4, width=4, dropout=0.0), words(tmp_path), unseen=["bee"], hidden=32,
                   optimizer=lambda parameters: torch.optim.Adam(parameters, lr=0.01))
    optimizer = model.configure_optimizers()
    for _ in range(60):
        label = torch.tensor([0, 2, 3]).repeat(16)
        optimizer.zero_grad()
        model.losses({"image": coloured(label), "label": label})["loss"].backward()
        optimizer.step()
    model.eval()
    scores, novelty = model.recognise(coloured(label))
    assert (scores.masked_fill(~model.seen, -torch.inf).argmax(1) == label).float().mean() > 0.9
    new = model.recognise(coloured(torch.ones(48, dtype=torch.long)))[1]
    assert new.median() > novelty.median(), "an image of no seen class is no newer than those of the seen"
    mapped = F.normalize(model.embed(coloured(label)), dim=1)
    assert ((mapped @ model.words().T)[range(48), label] > 0.9).float().mean() > 0.9
