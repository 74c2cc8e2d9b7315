import pytest
import torch
from diffusers.models.embeddings import get_timestep_embedding
from diffusers.models.resnet import ResnetBlock2D
from einops import rearrange
from torch import nn

from lightning_modules.networks.attention import PixelAttention
from lightning_modules.networks.embeddings import sinusoidal
from lightning_modules.networks.unet import ResBlock, UNet


def randomised(module: nn.Module, seed: int = 0) -> nn.Module:
    """All parameters drawn anew: the zero-initialised ones too, so that nothing is hidden."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(0.2 * torch.randn(parameter.shape, generator=generator))
    return module.eval()


def test_sinusoidal_equals_diffusers():
    t = torch.tensor([0.0, 1.0, 17.3, 999.0])
    theirs = get_timestep_embedding(t, 64, flip_sin_to_cos=True, downscale_freq_shift=0)
    torch.testing.assert_close(sinusoidal(t, 64), theirs, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("channels", [(16, 16), (16, 32)])
def test_resblock_equals_diffusers(channels):
    ours = randomised(ResBlock(*channels, dim=24, dropout=0.0))
    theirs = ResnetBlock2D(in_channels=channels[0], out_channels=channels[1], temb_channels=24, groups=8, eps=1e-5,
                           time_embedding_norm="scale_shift").eval()
    names = {"norm1": "norm1", "conv1": "conv1", "steer": "time_emb_proj", "norm2": "norm2", "conv2": "conv2",
             "skip": "conv_shortcut"}
    copied = {f"{names[name.split('.')[0]]}.{name.split('.')[1]}": value for name, value in ours.state_dict().items()}
    theirs.load_state_dict(copied)
    x, embedding = torch.randn(3, channels[0], 7, 5), torch.randn(3, 24)
    torch.testing.assert_close(ours(x, nn.functional.silu(embedding)), theirs(x, embedding), atol=1e-5, rtol=1e-5)


def test_pixel_attention_equals_multihead_attention():
    ours = randomised(PixelAttention(64, head_dim=32))
    theirs = nn.MultiheadAttention(64, num_heads=2, batch_first=True).eval()
    theirs.load_state_dict({"in_proj_weight": ours.to_qkv.weight.flatten(1), "in_proj_bias": ours.to_qkv.bias,
                            "out_proj.weight": ours.to_out.weight.flatten(1), "out_proj.bias": ours.to_out.bias})
    x = torch.randn(2, 64, 4, 3)
    tokens = rearrange(ours.norm(x), "b c h w -> b (h w) c")
    mixed = rearrange(theirs(tokens, tokens, tokens)[0], "b (h w) c -> b c h w", h=4)
    torch.testing.assert_close(ours(x), x + mixed, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("size", [(8, 8), (28, 28), (15, 15), (13, 22), (1, 1)])
@pytest.mark.parametrize("patch", [1, 2, 3])
def test_any_size(size, patch):
    network = randomised(UNet(channels=2, num_classes=5, width=8, multipliers=(1, 2, 2), patch=patch))
    x = torch.randn(3, 2, *size)
    assert network(x, torch.rand(3), torch.tensor([0, 4, 5])).shape == x.shape


def test_starts_at_zero():
    assert UNet(channels=1, width=8)(torch.randn(2, 1, 8, 8), torch.rand(2)).abs().max() == 0


def test_no_label_is_the_null_class():
    network = randomised(UNet(channels=1, num_classes=3, width=8))
    x, t = torch.randn(4, 1, 8, 8), torch.rand(4)
    torch.testing.assert_close(network(x, t), network(x, t, torch.full((4,), 3)))
    assert (network(x, t) - network(x, t, torch.zeros(4, dtype=torch.long))).abs().max() > 1e-3


def test_time_matters_and_images_do_not_mix():
    network = randomised(UNet(channels=1, width=8, attention_levels=(0, 1)))
    x, t = torch.randn(4, 1, 8, 8), torch.rand(4)
    alone = torch.cat([network(x[i:i + 1], t[i:i + 1]) for i in range(4)])
    torch.testing.assert_close(network(x, t), alone, atol=1e-4, rtol=1e-4)
    assert (network(x, t) - network(x, 1 - t)).abs().max() > 1e-3


@pytest.mark.parametrize(("arguments", "millions"), [
    ({"width": 16, "multipliers": (1, 2, 2)}, 0.29),
    ({"width": 24, "multipliers": (1, 2, 2), "patch": 2}, 0.65),
    ({"width": 128, "multipliers": (1, 2, 2, 2), "blocks_per_level": 2, "attention_levels": (1,)}, 38.3),
])
def test_sizes_by_configuration(arguments, millions):
    with torch.device("meta"):
        network = UNet(channels=1, num_classes=10, **arguments)
    assert sum(parameter.numel() for parameter in network.parameters()) / 1e6 == pytest.approx(millions, rel=0.02)


def test_wrong_width_is_named():
    with pytest.raises(ValueError, match=r"width 30 is not a multiple of 8.*try 32"):
        UNet(width=30)
