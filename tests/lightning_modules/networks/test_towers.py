import pytest
import torch

from datamodules.tokenizers import ClipTokenizer, Vocabulary
from lightning_modules.networks.text import BagOfWords, TextTransformer
from lightning_modules.networks.towers import TwoTowers
from lightning_modules.networks.vision import ResNet, ViT

WORDS = ["a red star above a blue ring", "the green heart", "three objects", "red"]


def vocabulary(context_length: int = 16) -> Vocabulary:
    tokenizer = Vocabulary(context_length)
    tokenizer.fit(WORDS)
    return tokenizer


def towers() -> list[TwoTowers]:
    torch.manual_seed(0)
    size = vocabulary().num_tokens
    return [TwoTowers(ViT(image_size=16, width=32, depth=2), TextTransformer(size, 16, width=32, depth=2), 12).eval(),
            TwoTowers(ResNet(image_size=16, widths=(8, 16, 32)), BagOfWords(size, width=24), 12).eval()]


@pytest.mark.parametrize("network", towers(), ids=["ViT and transformer", "ResNet and bag of words"])
def test_shapes_and_gradients(network):
    tokens, mask = vocabulary()(WORDS)
    images = torch.rand(4, 3, 16, 16) * 2 - 1
    network.train()
    image, text = network.image(images), network.text(tokens, mask)
    assert image.shape == text.shape == (4, 12)
    (image * text).sum().backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in network.parameters())


@pytest.mark.parametrize("network", towers(), ids=["ViT and transformer", "ResNet and bag of words"])
def test_a_row_says_the_same_in_any_batch(network):
    """Another order, other neighbours (longer texts among them): the same vectors."""
    tokens, mask = vocabulary()(WORDS)
    images = torch.rand(4, 3, 16, 16) * 2 - 1
    order = torch.tensor([2, 0, 3, 1])
    with torch.no_grad():
        image, text = network.image(images), network.text(tokens, mask)
        torch.testing.assert_close(network.image(images[order]), image[order], rtol=0, atol=1e-5)
        torch.testing.assert_close(network.text(tokens[order], mask[order]), text[order], rtol=0, atol=1e-5)
        torch.testing.assert_close(network.text(tokens[3:], mask[3:]), text[3:], rtol=0, atol=1e-5)


@pytest.mark.parametrize("num", [1, 75, 76, 77, 78, 500])
def test_the_end_token_is_kept_and_read(num):
    """Captions of `num` tokens, start and end not counted; 75 fill the 77 places."""
    torch.manual_seed(0)
    tokenizer = ClipTokenizer()
    tower = TextTransformer(width=32, depth=2).eval()
    tokens, mask = tokenizer(["cat " * num])
    assert tokens[mask].tolist() == [tokenizer.start, *[tokens[0, 1].item()] * min(num, 75), tokenizer.end]
    assert tokenizer.num_truncated == (num > 75)
    with torch.no_grad():
        feature = tower(tokens, mask)
        last = int(mask.sum()) - 1
        x = tower.transformer(tower.words(tokens) + tower.positions)
        torch.testing.assert_close(feature, tower.norm(x[:, last]), rtol=0, atol=1e-5)
        without = tokens.index_fill(1, torch.tensor([last]), tokens[0, 1].item())
        assert (tower(without, mask) - feature).abs().max() > 1e-3, "the end token says nothing"
        behind = tokens.masked_fill(~mask, tokenizer.end)
        torch.testing.assert_close(tower(behind, mask), feature, rtol=0, atol=1e-5)


def test_it_is_the_last_token_and_not_the_largest_id():
    """A vocabulary's end token has a small id."""
    torch.manual_seed(0)
    tokenizer = vocabulary()
    tower = TextTransformer(tokenizer.num_tokens, 16, width=32, depth=2).eval()
    one, other = (tokenizer([text]) for text in ("red star above", "red star a"))
    with torch.no_grad():
        assert (tower(*one) - tower(*other)).abs().max() > 1e-3


def test_a_bag_of_words_has_no_order_and_no_padding():
    tokenizer = vocabulary()
    bag = BagOfWords(tokenizer.num_tokens, width=8)
    one, other = bag(*tokenizer(["a red star above a blue ring", "a blue star above a red ring"]))
    torch.testing.assert_close(one, other)
    torch.testing.assert_close(bag(*tokenizer(["red"])), bag(*vocabulary(5)(["red"])))


def test_what_does_not_fit_is_one_line():
    with pytest.raises(ValueError, match=r"patch_size 4: images of 30 pixels .* --data.image_size 32"):
        ViT(image_size=30)
    with pytest.raises(ValueError, match="width 48 is not a multiple of head_dim 32; take width 32"):
        TextTransformer(60, 16, width=48)
    with pytest.raises(ValueError, match=r"widths \[8, 12\]"):
        ResNet(widths=(8, 12))
