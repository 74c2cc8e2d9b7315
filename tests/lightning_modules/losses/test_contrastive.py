import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from lightning_modules.losses.contrastive import clip_loss, gathered, siglip_loss, text_ids

CHUNKS = (None, 1, 4, 5, 12, 100)
CAPTIONS = torch.tensor([[5, 1], [7, 0], [5, 1], [9, 9], [7, 0], [5, 1], [2, 2], [3, 3], [0, 7], [1, 5], [4, 4], [6, 6]])   # three fives


def unit(num: int, dim: int = 16, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    drawn = torch.randn(num, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return F.normalize(drawn, dim=1).to(dtype)


def slow_clip(image: Tensor, text: Tensor, scale: float, matches: Tensor) -> float:
    """-log p of each pair, in words of one syllable."""
    total, num = 0.0, len(image)
    cosine = [[math.fsum((image[i] * text[j]).tolist()) for j in range(num)] for i in range(num)]
    for i in range(num):
        row, column = sum(math.exp(scale * cosine[i][j]) for j in range(num)), sum(math.exp(scale * cosine[j][i]) for j in range(num))
        for j in range(num):
            total -= int(matches[i, j]) / int(matches[i].sum()) * math.log(math.exp(scale * cosine[i][j]) / row)
            total -= int(matches[j, i]) / int(matches[:, i].sum()) * math.log(math.exp(scale * cosine[j][i]) / column)
    return total / num / 2


def slow_siglip(image: Tensor, text: Tensor, scale: float, bias: float, matches: Tensor) -> float:
    """Each pair asked by itself whether it matches."""
    total = 0.0
    for i in range(len(image)):
        for j in range(len(text)):
            p = 1 / (1 + math.exp(-(scale * math.fsum((image[i] * text[j]).tolist()) + bias)))
            total -= math.log(p if matches[i, j] else 1 - p)
    return total / len(image)


def gradients(loss: Tensor, *inputs: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(loss, inputs))


@pytest.mark.parametrize("repeated", [False, True])
def test_values_of_the_slow_versions(repeated):
    image, text = unit(12), unit(12, seed=1)
    targets = text_ids(CAPTIONS) if repeated else None
    matches = (CAPTIONS[:, None] == CAPTIONS).all(-1) if repeated else torch.eye(12, dtype=torch.bool)
    assert clip_loss(image, text, 14.3, targets).item() == pytest.approx(slow_clip(image, text, 14.3, matches), abs=1e-10)
    for chunk in CHUNKS:
        ours = siglip_loss(image, text, 10.0, -2.4, targets, chunk).item()
        assert ours == pytest.approx(slow_siglip(image, text, 10.0, -2.4, matches), abs=1e-10)


def test_any_matrix_may_say_what_matches():
    """Several texts of one image, whose other images are not those of its texts: rows and columns have sums of their own."""
    image, text, matches = unit(4), unit(4, seed=1), torch.eye(4, dtype=torch.bool)
    matches[0, 1] = matches[0, 2] = matches[3, 1] = True
    assert clip_loss(image, text, 14.3, matches).item() == pytest.approx(slow_clip(image, text, 14.3, matches), abs=1e-10)
    expected = slow_siglip(image, text, 10.0, -2.4, matches)
    assert siglip_loss(image, text, 10.0, -2.4, matches, 3).item() == pytest.approx(expected, abs=1e-10)


def test_initial_losses_of_256_pairs():
    """Where every cosine is 0 (or all are equal) softmax spreads evenly, ln N, and the bias alone speaks in the sigmoid loss."""
    corner = torch.eye(512)
    image, text = corner[:256], corner[256:]
    assert clip_loss(image, text, 1 / 0.07).item() == pytest.approx(math.log(256), abs=1e-5)
    assert clip_loss(corner[:1].expand(256, -1), corner[:1].expand(256, -1), 100.0).item() == pytest.approx(5.5452, abs=5e-5)
    for chunk in (None, 100):
        assert siglip_loss(image, text, 10.0, -10.0, chunk=chunk).item() == pytest.approx(10.0116, abs=5e-5)
        assert siglip_loss(image, text, 10.0, 0.0, chunk=chunk).item() == pytest.approx(177.4, abs=0.05)
        at_prior_odds = siglip_loss(image, text, 10.0, -math.log(255), chunk=chunk).item()
        assert at_prior_odds == pytest.approx(math.log(256) + 255 * math.log(256 / 255), abs=1e-4)


@pytest.mark.parametrize("repeated", [None, "ids", "matrix"])
@pytest.mark.parametrize("chunk", CHUNKS[1:])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_chunked_is_full(chunk, dtype, repeated):
    targets = {None: None, "ids": text_ids(CAPTIONS), "matrix": (CAPTIONS[:, None] == CAPTIONS).all(-1)}[repeated]
    inputs = [unit(12, dtype=dtype), unit(12, seed=1, dtype=dtype), torch.tensor(30.0, dtype=dtype), torch.tensor(-3.0, dtype=dtype)]
    for tensor in inputs:
        tensor.requires_grad_()
    full, chunked = siglip_loss(*inputs, targets), siglip_loss(*inputs, targets, chunk)
    for own, other in zip([chunked, *gradients(3 * chunked, *inputs)], [full, *gradients(3 * full, *inputs)], strict=True):
        torch.testing.assert_close(own, other, atol=1e-6 * max(1.0, other.abs().max().item()), rtol=0)


def test_analytic_gradient_by_finite_differences():
    inputs = [unit(5, 3).requires_grad_(), unit(5, 3, seed=1).requires_grad_(), torch.tensor(10.0, dtype=torch.float64, requires_grad=True),
              torch.tensor(-1.6, dtype=torch.float64, requires_grad=True)]
    ids = torch.tensor([0, 1, 0, 2, 3])
    assert torch.autograd.gradcheck(lambda *given: siglip_loss(*given, ids, 2), inputs)
    assert torch.autograd.gradcheck(lambda *given: clip_loss(*given, ids), inputs[:3])


def test_gradient_of_a_part_and_none_at_all():
    image, text = unit(6).requires_grad_(), unit(6, seed=1)
    siglip_loss(image, text, 10.0, -2.0, chunk=4).backward()                                  # numbers, and a frozen tower
    expected, = gradients(siglip_loss(image, text, 10.0, -2.0), image)
    torch.testing.assert_close(image.grad, expected)
    assert text.grad is None
    with torch.no_grad():
        assert not siglip_loss(image, text, 10.0, -2.0, chunk=4).requires_grad


def test_gradient_twice():
    image = unit(6).requires_grad_()
    loss = siglip_loss(image, unit(6, seed=1), 10.0, -2.0, chunk=4)
    torch.testing.assert_close(gradients_kept(loss, image), gradients_kept(loss, image), rtol=0, atol=0)


def gradients_kept(loss: Tensor, image: Tensor) -> Tensor:
    return torch.autograd.grad(loss, image, retain_graph=True)[0]


@pytest.mark.parametrize("ids", [None, text_ids(CAPTIONS)], ids=["diagonal", "ids"])
def test_order_of_the_pairs_does_not_matter(ids):
    order = torch.randperm(12, generator=torch.Generator().manual_seed(3))
    image, text = unit(12).requires_grad_(), unit(12, seed=1).requires_grad_()
    losses = [lambda x, y, targets: clip_loss(x, y, 20.0, targets),
              *(lambda x, y, targets, chunk=chunk: siglip_loss(x, y, 20.0, -2.0, targets, chunk) for chunk in CHUNKS)]
    for loss in losses:
        before, after = loss(image, text, ids), loss(image[order], text[order], None if ids is None else ids[order])
        torch.testing.assert_close(before, after)
        torch.testing.assert_close(gradients(before, image, text), gradients(after, image, text))


@pytest.mark.parametrize("loss", [lambda x, y: clip_loss(x, y, 20.0), lambda x, y: siglip_loss(x, y, 20.0, -2.0, chunk=5)])
def test_image_and_text_may_change_places(loss):
    torch.testing.assert_close(loss(unit(12), unit(12, seed=1)), loss(unit(12, seed=1), unit(12)))


def test_a_repeated_caption_is_no_negative():
    """Two images of one caption, rightly embedded at one place: only with targets is that the optimum."""
    place = torch.eye(3, dtype=torch.float64)[[0, 0, 1, 2]].requires_grad_()
    ids = torch.tensor([0, 0, 1, 2])
    half_of_the_rows_choose_evenly = math.log(2) / 2
    assert clip_loss(place, place, 100.0, ids).item() == pytest.approx(half_of_the_rows_choose_evenly, abs=1e-9)
    for chunk in (None, 3):
        assert siglip_loss(place, place, 100.0, -50.0, ids, chunk).item() == pytest.approx(0, abs=1e-9)
        assert siglip_loss(place, place, 100.0, -50.0, None, chunk).item() == pytest.approx(100 / 4, abs=1e-9)


def test_ids_of_texts():
    ids = text_ids(CAPTIONS)
    assert torch.equal(ids[:, None] == ids, (CAPTIONS[:, None] == CAPTIONS).all(-1))


@pytest.mark.parametrize("loss", [lambda x, y, s, b: clip_loss(x, y, s), siglip_loss, lambda x, y, s, b: siglip_loss(x, y, s, b, chunk=4)],
                         ids=["clip", "siglip", "siglip in chunks"])
def test_full_precision_in_a_run_of_less(loss):
    image, text = unit(12).bfloat16().requires_grad_(), unit(12, seed=1).bfloat16().requires_grad_()
    scale, bias = torch.tensor(100.0, requires_grad=True), torch.tensor(-10.0, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        in_run = loss(image, text, scale, bias)
    in_run.backward()
    exact = loss(image.detach().double(), text.detach().double(), scale.detach().double(), bias.detach().double())
    assert in_run.dtype == torch.float32
    assert in_run.item() == pytest.approx(exact.item(), rel=1e-6)
    assert image.grad.dtype == torch.bfloat16
    assert scale.grad.dtype == torch.float32


def test_chunk_below_one():
    with pytest.raises(ValueError, match="chunk 0 is below 1"):
        siglip_loss(unit(2), unit(2), 1.0, 0.0, chunk=0)


def test_one_process_gathers_itself():
    x = unit(3)
    assert gathered(x) is x
