import pytest
import torch

from lightning_modules.networks.gan import Critic, Generator

OPTIONS = [{}, {"projection": True}, {"spectral": True}, {"projection": True, "spectral": True}]


@pytest.mark.parametrize("size", [8, 12, 28, 32])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("num_classes", [None, 5])
def test_any_multiple_of_four(size, channels, num_classes):
    sizes = {"channels": channels, "image_size": size, "num_classes": num_classes, "width": 8}
    label = None if num_classes is None else torch.tensor([0, 4, 2])
    images = Generator(**sizes, latent_dim=6)(torch.randn(3, 6), label)
    assert images.shape == (3, channels, size, size)
    assert images.abs().max() <= 1
    for options in OPTIONS:
        assert Critic(**sizes, **options)(images, label).shape == (3,)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_a_score_is_of_one_image_and_its_label(options):
    torch.manual_seed(0)
    critic = Critic(image_size=12, width=8, **options).eval()
    images, label = torch.randn(6, 1, 12, 12), torch.arange(6)
    alone = torch.cat([critic(images[i:i + 1], label[i:i + 1]) for i in range(6)])
    torch.testing.assert_close(critic(images, label), alone, atol=1e-5, rtol=1e-4)
    assert (critic(images, label) - critic(images, label + 1)).abs().min() > 1e-5


def test_an_image_is_of_its_own_noise_in_training_too():
    torch.manual_seed(0)
    generator = Generator(image_size=12, latent_dim=6, width=8).train()
    z, label = torch.randn(6, 6), torch.arange(6)
    alone = torch.cat([generator(z[i:i + 1], label[i:i + 1]) for i in range(6)])
    torch.testing.assert_close(generator(z, label), alone, atol=1e-5, rtol=1e-4)


def test_label_planes_are_what_the_lecture_repeats():
    """A critic that adds up its input scores each label by its own plane: K more channels, ones in the label's, zeros in the others."""
    critic = Critic(image_size=8, num_classes=3, width=8)
    assert critic.layers[0].in_channels == 1 + 3
    seen = []
    critic.layers[0].register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    images = torch.randn(2, 1, 8, 8)
    critic(images, torch.tensor([2, 0]))
    planes = torch.zeros(2, 3, 8, 8)
    planes[0, 2] = planes[1, 0] = 1
    assert torch.equal(seen[0], torch.cat([images, planes], dim=1))


def test_spectral_norm_bounds_each_layer():
    torch.manual_seed(0)
    critic = Critic(image_size=8, num_classes=None, width=8, spectral=True)
    for _ in range(50):
        critic(torch.randn(2, 1, 8, 8))     # power iterations
    for layer in [*critic.layers, critic.head]:
        if hasattr(layer, "weight"):
            assert torch.linalg.matrix_norm(layer.weight.flatten(1), 2).item() == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("size", [4, 14, 30])
def test_a_wrong_size_is_named(size):
    with pytest.raises(ValueError, match=f"image_size {size}: .*--data.image_size"):
        Generator(image_size=size)
