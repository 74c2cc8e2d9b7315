"""Retrieval in a real Trainer, of models whose answers are known in closed form, and against a slow count."""

import pytest
import torch

from callbacks.retrieval import Retrieval, ranks
from tests.callbacks.embedders import Matcher, Numbered
from tests.callbacks.test_zero_shot import last, validate
from tests.callbacks.tiny import TinyData

EACH = {"num": 20, "num_classes": 20}  # every picture shows another number


class Blind(Matcher):
    """Takes every picture and every text for the same."""

    def embed_images(self, images):
        return torch.ones(len(images), 1)

    def embed_tokens(self, tokens, mask):
        return torch.ones(len(tokens), 1)


def test_a_model_that_knows_every_caption():
    record = validate(Retrieval(), Matcher(), Numbered(**EACH))
    for direction in ("image_to_text", "text_to_image"):
        for what in ("at_1", "at_5", "at_10", "median"):
            assert last(record, f"val/{direction}_{what}_numbered") == 1, (direction, what)
    columns, rows = record.tables["val/retrieval_numbered"][-1]
    assert columns == ["direction", "what", "value", "low", "high", "num"] and rows[0] == ["image_to_text", "at_1", 1, 1, 1, 20]
    about = record.about["val/image_to_text_at_1_numbered"][0]
    assert about["num_images"] == about["num_captions"] == 20 and about["duplicates"].startswith("equal captions are one candidate")


def test_five_of_twenty_are_taken_for_the_next():
    model = Matcher()
    model.wrong = range(5)
    record = validate(Retrieval(), model, Numbered(**EACH))
    assert last(record, "val/image_to_text_at_1_numbered") == 0.75
    # captions 1 to 4 find the pictures before theirs, caption 0 no picture at all, caption 5 two pictures, of which the wrong one wins
    assert last(record, "val/text_to_image_at_1_numbered") == pytest.approx(14 / 20)
    low, high = record.tables["val/retrieval_numbered"][-1][1][0][3:5]
    assert low < 0.75 < high


def test_a_model_that_sees_nothing_finds_nothing():
    """All cosines are equal; a count of only the nearer ones would put every answer first."""
    record = validate(Retrieval(), Blind(), Numbered(**EACH))
    assert last(record, "val/image_to_text_at_10_numbered") == 0 and last(record, "val/image_to_text_median_numbered") == 20


def test_captions_that_several_pictures_share_are_right_for_all():
    data = Numbered(num=20, num_classes=10)  # each number twice, with the same caption
    record = validate(Retrieval(), Matcher(), data)
    assert last(record, "val/image_to_text_at_1_numbered") == last(record, "val/text_to_image_at_1_numbered") == 1
    about = record.about["val/text_to_image_at_1_numbered"][0]
    assert about["num_images"] == 20 and about["num_captions"] == 10


def test_any_of_several_captions_will_do():
    """Every picture has a caption of another picture's number first, and one of its own."""
    said = [["31 31 31", str(number)] for number in range(20)]
    record = validate(Retrieval(), Matcher(), Numbered(**EACH, said=said))
    assert last(record, "val/image_to_text_at_1_numbered") == 1
    assert record.about["val/image_to_text_at_1_numbered"][0]["num_captions"] == 21
    assert last(record, "val/text_to_image_at_1_numbered") == 1, "the shared one is every picture's"


def test_ranks_are_those_of_a_slow_count():
    generator = torch.Generator().manual_seed(0)
    cosine = torch.randn(12, 30, generator=generator).mul(3).round()  # ties
    right = torch.rand(12, 30, generator=generator) < 0.15
    right[torch.arange(12), torch.arange(12)] = True
    right[torch.arange(30) % 12, torch.arange(30)] = True
    found = ranks(cosine, right)
    for places, table, good in ((found.image_to_text, cosine, right), (found.text_to_image, cosine.T, right.T)):
        for row, place in enumerate(places.tolist()):
            order = sorted(range(table.shape[1]), key=lambda column: (-table[row, column].item(), bool(good[row, column])))
            assert place == 1 + next(at for at, column in enumerate(order) if good[row, column])


def test_fewer_rows_of_another_split_are_another_key():
    record = validate(Retrieval(splits=["validation", "held_out"], num_images=5), Matcher(), Numbered(**EACH))
    assert last(record, "val/text_to_image_at_1_numbered_held_out") == 1
    assert record.about["val/text_to_image_at_1_numbered_held_out"][0]["num_images"] == 5


def test_what_it_needs():
    with pytest.raises(ValueError, match="Retrieval: 1 pictures leave no choice"):
        Retrieval(num_images=1)
    with pytest.raises(ValueError, match="Retrieval needs a datamodule with `captions`, which TinyData has not"):
        validate(Retrieval(), Matcher(), TinyData())
