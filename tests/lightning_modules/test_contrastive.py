import math

import pytest
import torch
from torch.nn import functional as F

from datamodules.tokenizers import Vocabulary
from lightning_modules.clip import CLIP
from lightning_modules.losses.contrastive import clip_loss, siglip_loss
from lightning_modules.networks.text import TextTransformer
from lightning_modules.networks.towers import TwoTowers
from lightning_modules.networks.vision import ViT
from lightning_modules.siglip import SigLIP

COLOURS = {"red": (1, -1, -1), "green": (-1, 1, -1), "blue": (-1, -1, 1), "white": (1, 1, 1), "black": (-1, -1, -1), "yellow": (1, 1, -1),
           "pink": (1, -1, 1), "cyan": (-1, 1, 1)}
TOKENIZER = Vocabulary(8)
TOKENIZER.fit(COLOURS)


def network() -> TwoTowers:
    torch.manual_seed(0)
    return TwoTowers(ViT(image_size=8, width=32, depth=1), TextTransformer(TOKENIZER.num_tokens, 8, width=32, depth=1), 16)


def batch_of(num: int, seed: int = 0):
    """Noisy squares of a colour and its name; more than eight repeat some."""
    generator = torch.Generator().manual_seed(seed)
    names = [[*COLOURS][number % 8] for number in torch.randperm(num, generator=generator).tolist()]
    plain = torch.tensor([COLOURS[name] for name in names], dtype=torch.float32)[..., None, None]
    tokens, mask = TOKENIZER(names)
    image = 0.8 * plain + 0.2 * torch.randn(num, 3, 8, 8, generator=generator)
    return {"image": image, "text": names, "tokens": tokens, "mask": mask}


@pytest.mark.parametrize("kind", [CLIP, SigLIP])
def test_equal_captions_are_right_for_each_others_pictures(kind):
    model, batch = kind(network()), batch_of(16)
    model.train()
    loss = model.losses(batch)["loss"]
    image, text = model.embed_images(batch["image"]), model.embed_tokens(batch["tokens"], batch["mask"])
    same = torch.tensor([[one == other for other in batch["text"]] for one in batch["text"]])
    assert same.sum() == 32
    by_hand, diagonal = ((clip_loss(image, text, model.scale, targets) if kind is CLIP else
                          siglip_loss(image, text, model.scale, model.bias, targets)) for targets in (same, None))
    torch.testing.assert_close(loss, by_hand)
    # the softmax shares its probability among equal texts by itself; to the sigmoid each would be a wrong one
    assert abs(loss - diagonal) < 1e-5 if kind is CLIP else abs(loss - diagonal) > 1e-3


@pytest.mark.parametrize("kind", [CLIP, SigLIP])
def test_colours_are_learned(kind):
    """Batches of 16 have each of eight names twice."""
    model = kind(network())
    model.train()
    optimizer = torch.optim.AdamW(model.trained_parameters(), lr=3e-3)
    first = None
    for step in range(60):
        loss = model.losses(batch_of(16, step))["loss"]
        first = first or loss.item()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()
    batch = batch_of(8, 1000)
    image, text = model.embed_images(batch["image"]), model.embed_tokens(batch["tokens"], batch["mask"])
    assert (model.probabilities(image, text).argmax(1) == torch.arange(8)).all()
    floor = math.log(2) if kind is CLIP else 0.0            # each of two equal captions is the right one
    assert loss.item() - floor < 0.3 * (first - floor)


def test_embeddings_are_unit_vectors():
    model, batch = CLIP(network()), batch_of(8)
    for vectors in (model.embed_images(batch["image"]), model.embed_tokens(batch["tokens"], batch["mask"])):
        torch.testing.assert_close(vectors.norm(dim=1), torch.ones(8))


def test_probabilities_and_what_is_declared():
    image, text = F.normalize(torch.randn(5, 16), dim=1), F.normalize(torch.randn(3, 16), dim=1)
    clip, siglip = CLIP(network()), SigLIP(network(), bias=-2.0)
    torch.testing.assert_close(clip.probabilities(image, text).sum(1), torch.ones(5))
    torch.testing.assert_close(clip.probabilities(image, text), (image @ text.T / 0.07).softmax(1))
    torch.testing.assert_close(siglip.probabilities(image, text), torch.sigmoid(10 * image @ text.T - 2))
    assert clip.similarity_settings() == {"loss": "softmax", "scale": pytest.approx(1 / 0.07), "bias": None}
    assert siglip.similarity_settings() == {"loss": "sigmoid", "scale": pytest.approx(10), "bias": -2.0}


def test_the_bias_starts_at_the_prior_odds_of_the_first_training_batch():
    model = SigLIP(network())
    model.eval()
    model.losses(batch_of(8))
    assert model.bias == -10, "validation moves nothing"
    model.train()
    assert model.losses(batch_of(16))["bias"].item() == pytest.approx(-math.log(15))
    model.losses(batch_of(8))
    assert model.bias.item() == pytest.approx(-math.log(15)), "it is set once"
    again = SigLIP(network())
    again.load_state_dict(model.state_dict())
    again.train()
    again.losses(batch_of(8))
    assert again.bias.item() == pytest.approx(-math.log(15)), "a resumed run goes on"


def test_given_starts():
    assert SigLIP(network(), scale=5.0, bias=-10.0).similarity_settings() == {"loss": "sigmoid", "scale": pytest.approx(5), "bias": -10.0}
    trained = network()
    trained.learned_scale, trained.learned_bias = 80.0, -12.0
    assert CLIP(trained).scale.item() == pytest.approx(80)
    model = SigLIP(trained)
    model.train()
    assert model.losses(batch_of(8))["bias"] == -12
    assert CLIP(trained, scale=3.0).scale.item() == pytest.approx(3)


def test_the_scale_stays_below_100():
    model = CLIP(network(), scale=99.9, optimizer=lambda groups: torch.optim.SGD(groups, lr=1.0))
    optimizer = model.configure_optimizers()

    def closure():
        model.log_scale.grad = torch.tensor(-5.0)
        return torch.zeros(())

    model.optimizer_step(0, 0, optimizer, closure)
    assert model.scale.item() == pytest.approx(100)


def test_gains_biases_and_the_scale_do_not_decay():
    model = SigLIP(network())
    optimizer = torch.optim.AdamW(model.trained_parameters(), lr=0.0, weight_decay=0.5)
    decays = {id(parameter): group["weight_decay"] for group in optimizer.param_groups for parameter in group["params"]}
    assert set(decays) == {id(parameter) for parameter in model.parameters()}
    for name, parameter in model.named_parameters():
        assert decays[id(parameter)] == (0.5 if parameter.ndim > 1 else 0.0), name
    assert decays[id(model.log_scale)] == decays[id(model.bias)] == 0.0


def test_chunks_of_the_loss_change_nothing():
    batch = batch_of(16)
    whole, parts = (SigLIP(network(), bias=-2.0, chunk=chunk).losses(batch)["loss"] for chunk in (None, 5))
    torch.testing.assert_close(whole, parts, rtol=0, atol=1e-6)
