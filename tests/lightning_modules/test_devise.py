"""DeViSE's hinge against a loop over words."""

import pytest
import torch

from lightning_modules.devise import DeViSE
from lightning_modules.networks.conv import ConvNet
from tests.lightning_modules.words import coloured, words


@pytest.fixture
def model(tmp_path):
    torch.manual_seed(0)
    return DeViSE(ConvNet(num_classes=4, width=4, dropout=0.0), words(tmp_path), unseen=["dog"]).eval()


def test_loss_is_the_hinge_over_the_words_of_the_seen(model):
    given = {"image": torch.randn(6, 3, 8, 8), "label": torch.tensor([0, 1, 2, 3, 2, 0])}      # row 3 is of an unseen class
    losses = model.losses(given)
    expected = 0.0
    with torch.no_grad():
        for row in (0, 1, 2, 4, 5):
            mapped = model.map.weight @ model.network.features(given["image"])[row]
            mapped = mapped / mapped.norm()
            own = model.words()[given["label"][row]]
            for other in (0, 1, 2):
                if other != given["label"][row]:
                    expected += max(0.0, float(0.1 - own @ mapped + model.words()[other] @ mapped)) / 5
    assert float(losses["loss"].detach()) == pytest.approx(expected, rel=1e-5)


def test_a_satisfied_margin_costs_nothing_and_an_equal_one_costs_the_margin(model):
    exact = model.words()[torch.tensor([0, 2])]
    model.embed = lambda images: exact
    given = {"image": torch.zeros(2, 3, 8, 8), "label": torch.tensor([0, 2])}
    cosines = exact @ model.words()[:3].T
    assert float((cosines[0, 0] - cosines[0, 1:]).min()) > 0.1 and float(model.losses(given)["loss"]) == 0
    model.words.vectors[:] = model.words.vectors[0]
    model.embed = lambda images: model.words()[:2]
    assert float(model.losses(given)["loss"]) == pytest.approx(2 * 0.1)


def test_scores_are_cosines_and_the_threshold_is_the_nearest_of_all_words(model):
    cosine, novelty = model.recognise(torch.randn(40, 3, 8, 8))
    assert cosine.abs().max() <= 1 + 1e-6
    torch.testing.assert_close(novelty, cosine[:, 3] - cosine[:, :3].amax(1))
    assert torch.equal(novelty > model.threshold, cosine.argmax(1) == 3)


def test_learns_to_rank(tmp_path):
    torch.manual_seed(1)
    model = DeViSE(ConvNet(num_classes=4, width=4, dropout=0.0), words(tmp_path), unseen=["bee"],
                   optimizer=lambda parameters: torch.optim.Adam(parameters, lr=0.01))
    optimizer = model.configure_optimizers()
    label = torch.tensor([0, 2, 3]).repeat(16)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        loss = model.losses({"image": coloured(label), "label": label})["loss"]
        loss.backward()
        optimizer.step()
        losses.append(float(loss))
    assert losses[-1] < 0.2 * losses[0]
    assert float(model.eval().losses({"image": coloured(label), "label": label})["accuracy"]) > 0.9
