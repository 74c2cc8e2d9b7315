import torch
from torch.nn import functional as F

from lightning_modules.classifier import Classifier
from lightning_modules.networks.conv import ConvNet


def test_loss_is_cross_entropy_and_smoothing_is_for_training_only():
    torch.manual_seed(0)
    model = Classifier(ConvNet(channels=1, num_classes=3, width=4, dropout=0.0), label_smoothing=0.2)
    batch = {"image": torch.randn(5, 1, 8, 8), "label": torch.tensor([0, 1, 2, 0, 1])}
    model.eval()
    log_p = model.classify(batch["image"]).log_softmax(1)
    losses = model.losses(batch)
    torch.testing.assert_close(losses["loss"], -log_p[range(5), batch["label"]].mean())
    torch.testing.assert_close(losses["accuracy"], (log_p.argmax(1) == batch["label"]).float().mean())
    model.train()
    logits = model.network(batch["image"])
    torch.testing.assert_close(model.losses(batch)["loss"], F.cross_entropy(logits, batch["label"], label_smoothing=0.2),
                               atol=1e-5, rtol=1e-5)


def test_features_lead_to_logits():
    model = Classifier(ConvNet(channels=3, num_classes=4, width=4)).eval()
    images = torch.randn(2, 3, 9, 13)
    features = model.features(images)
    torch.testing.assert_close(model.network.head(features), model.classify(images))


def test_learns_a_separable_problem():
    torch.manual_seed(0)
    label = torch.arange(64) % 2
    images = 0.3 * torch.randn(64, 1, 8, 8)
    images[label == 1, :, :, :4] += 1
    model = Classifier(ConvNet(channels=1, num_classes=2, width=4))
    optimizer = model.configure_optimizers()
    for _ in range(30):
        optimizer.zero_grad()
        model.losses({"image": images, "label": label})["loss"].backward()
        optimizer.step()
    model.eval()
    assert model.losses({"image": images, "label": label})["accuracy"] == 1
