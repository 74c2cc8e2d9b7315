"""CLIP score against a cosine by hand and torchmetrics' formula, in a real Trainer, by a run of ours and by open_clip."""

import pytest
import torch

from callbacks.clip_score import ClipScore, clip_score
from callbacks.clips import Clip
from tests.callbacks.embedders import Matcher, Numbered, write_clip_run
from tests.callbacks.test_zero_shot import last, validate
from tests.callbacks.tiny import TinyData


class Drawer(Matcher):
    """Draws the number that it is told, or the one `off` further on."""

    off = 0

    def sample(self, batch, *, generator=None, num_steps=None, start=1.0):
        assert len(generator) == len(batch["text"])
        told = (batch["tokens"][:, 0] + self.off) / 127.5 - 1
        return told[:, None, None, None].expand(batch["image"].shape)


class Shy(torch.nn.Module):
    """Two towers and no sample()."""


@pytest.fixture
def judge(tmp_path):
    return Clip(run=write_clip_run(tmp_path / "run", Matcher()))


def test_a_model_that_draws_what_it_is_told(judge):
    record = validate(ClipScore(judge, num_images=20), Drawer())
    assert last(record, "val/clip_score_quadrants_clip") == pytest.approx(100)
    assert last(record, "val/real_clip_score_quadrants_clip") == pytest.approx(100) and last(record, "val/captions_cut_quadrants_clip") == 0
    columns, rows = record.tables["val/clip_scores_quadrants_clip"][-1]
    assert columns == ["pictures", "score", "low", "high", "num"] and [row[0] for row in rows] == ["real", "drawn"]
    about = record.about["val/clip_score_quadrants_clip"][0]
    assert about["formula"].startswith("100 * max(cosine, 0)") and len(about["clip_weights_sha256"]) == 64
    assert about["num_images"] == 20 and about["num_truncated"] == 0 and about["sampler"] == "closed form"


def test_a_model_that_draws_another_number_and_captions_that_are_cut(judge):
    model = Drawer()
    model.off = 1
    said = [[f"{number} 9 9 9" + " 9" * (number == 3)] for number in range(8)]
    data = Numbered(num=8, said=said)
    record = validate(ClipScore(judge, scale=2.5), model, data)
    assert last(record, "val/captions_cut_quadrants_clip") == record.about["val/clip_score_quadrants_clip"][0]["num_truncated"] == 1
    own = 1 / 10**0.5  # cosine of (1, 3 times another) with the one
    assert last(record, "val/real_clip_score_quadrants_clip") == pytest.approx(2.5 * own)
    assert last(record, "val/clip_score_quadrants_clip") == 0


def test_towers_that_do_not_draw_are_asked_for_the_real_pictures(judge):
    model = Matcher()
    model.sample = None  # has none
    with pytest.MonkeyPatch.context() as patch:
        patch.delattr("tests.callbacks.tiny.TinyModel.sample")
        del model.sample
        record = validate(ClipScore(judge), model)
    assert last(record, "val/real_clip_score_quadrants_clip") == pytest.approx(100) and not record.values("val/clip_score_quadrants_clip")


def test_the_score_is_the_cosine_by_hand_and_that_of_torchmetrics():
    """torchmetrics' own function downloads a transformers model; its formula stands in functional/multimodal/clip_score.py."""
    generator = torch.Generator().manual_seed(0)
    image, text = torch.randn(50, 64, generator=generator), torch.randn(50, 64, generator=generator) + 0.1
    by_hand = [float((a @ b) / (a.norm() * b.norm())) for a, b in zip(image.double(), text.double(), strict=True)]
    assert min(by_hand) < 0 < max(by_hand)
    assert clip_score(image, text, 1).tolist() == pytest.approx([max(value, 0) for value in by_hand], abs=1e-6)
    theirs = 100 * (image / image.norm(p=2, dim=-1, keepdim=True) * (text / text.norm(p=2, dim=-1, keepdim=True))).sum(-1)
    assert torch.allclose(clip_score(image, text), theirs.clamp(min=0), atol=1e-5)
    assert torch.allclose(clip_score(3 * image, text, 2.5), 0.025 * theirs.clamp(min=0), atol=1e-5)


def test_mistakes(judge):
    with pytest.raises(ValueError, match="ClipScore: scale 0 is not positive"):
        ClipScore(judge, scale=0)
    with pytest.raises(ValueError, match="ClipScore: 0 images"):
        ClipScore(judge, num_images=0)
    with pytest.raises(ValueError, match="ClipScore needs a datamodule with `captions`, which TinyData has not"):
        validate(ClipScore(judge), Drawer(), TinyData())
