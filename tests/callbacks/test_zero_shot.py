"""Zero-shot accuracy in a real Trainer, of models whose answers are known in closed form, and of a small open_clip model."""

import numpy as np
import pytest
import torch
from torchmetrics.functional.classification import multiclass_calibration_error

from callbacks.class_accuracy import wilson
from callbacks.clips import filled
from callbacks.intervals import bootstrap, calibration_error
from callbacks.zero_shot import ZeroShot
from tests.callbacks.embedders import Matcher, Numbered, Numbers
from tests.callbacks.tiny import Record, TinyData, TinyModel, trainer


def validate(callback, model, data=None, stage: str = "validate") -> Record:
    record = Record()
    getattr(trainer([callback], logger=record), stage)(model, datamodule=data or Numbered(), verbose=False)
    return record


def last(record: Record, key: str) -> float:
    return record.values(key)[-1][1]


def test_a_model_that_knows_every_class():
    record = validate(ZeroShot(templates=["{}"]), Matcher())
    for key in ("zero_shot_numbered", "zero_shot_top5_numbered", "zero_shot_per_class_numbered"):
        assert last(record, f"val/{key}") == 1, key
    assert last(record, "val/zero_shot_ece_numbered") == pytest.approx(0, abs=1e-6), "sure, and right"
    columns, rows = record.tables["val/zero_shot_by_class_numbered"][-1]
    assert columns == ["class", "accuracy", "low", "high", "num_images"]
    assert rows[0] == ["all", 1, 1, 1, 40] and rows[1] == ["0", 1, *wilson(5, 5), 5] and len(rows) == 9
    about = record.about["val/zero_shot_numbered"][0]
    assert about["clip"] == "Matcher" and about["templates"] == ["{}"] and about["num_images"] == 40 and about["num_classes"] == 8
    assert about["split"] == "validation" and about["weights"] == "raw" and about["confidence"] == "softmax over the classes"


def test_a_model_that_takes_two_classes_for_others():
    model = Matcher()
    model.wrong = (2, 5)  # ten pictures of 40; said with full confidence
    data = Numbered(num=42)  # classes 0 and 1 have six pictures, the others five
    record = validate(ZeroShot(templates=["{}"]), model, data)
    assert last(record, "val/zero_shot_numbered") == pytest.approx(32 / 42)
    assert last(record, "val/zero_shot_per_class_numbered") == pytest.approx(6 / 8)
    assert last(record, "val/zero_shot_ece_numbered") == pytest.approx(10 / 42, abs=1e-6)
    rows = {row[0]: row[1:] for row in record.tables["val/zero_shot_by_class_numbered"][-1][1]}
    assert rows["2"] == [0, *wilson(0, 5), 5] and rows["3"][0] == 1
    low, high = rows["all"][1:3]
    assert low < 32 / 42 < high and high - low == pytest.approx(4 * (32 * 10 / 42**3) ** 0.5, rel=0.2), "about four standard errors"


def test_the_most_probable_class_of_a_sigmoid_is_that_of_the_greatest_cosine():
    """Where all probabilities are 1, the cosine still decides."""
    model = Matcher()
    model.loss, model.bias = "sigmoid", 300.0
    record = validate(ZeroShot(templates=["{}"]), model)
    assert last(record, "val/zero_shot_numbered") == 1 and last(record, "val/zero_shot_ece_numbered") == pytest.approx(0)
    assert record.about["val/zero_shot_numbered"][0]["confidence"].startswith("sigmoid")


def test_an_ensemble_is_the_unit_mean_of_unit_vectors():
    from callbacks.clips import InTraining

    one = trainer([])
    one.datamodule = Numbered()
    clip = InTraining(one, Matcher(), None)
    words = clip.classifier(["3", "4"], ["{}", "{} 7 7"])
    plain, longer = clip.embed_texts(["4", "4 7 7"])
    assert torch.allclose(words[1], torch.nn.functional.normalize(plain + longer, dim=0)) and words.shape == (2, 32)
    assert not torch.allclose(words[1], torch.nn.functional.normalize(clip.embed_texts(["4 4 7 7"])[0], dim=0)), "not the mean of words"


def test_articles():
    assert filled("a photo of a {}", "apple") == "a photo of a apple", "as published results have it"
    names = ("orange star", "Airplane", "red star")
    assert [filled("a(n) {}.", name) for name in names] == ["an orange star.", "an Airplane.", "a red star."]


def test_templates_class_names_and_number():
    data = Numbered()
    record = validate(ZeroShot(templates=["{}"], class_names=[str(number) for number in range(7, -1, -1)], num_images=16), Matcher(), data)
    assert last(record, "val/zero_shot_numbered") == 0, "every class is called by another's name"
    assert record.about["val/zero_shot_numbered"][0]["class_names"] == ["7", "6", "5", "4", "3", "2", "1", "0"]
    assert record.tables["val/zero_shot_by_class_numbered"][-1][1][0][-1] == 16
    cut = validate(ZeroShot(templates=["{} 9 9 9 9"]), Matcher()).about["val/zero_shot_numbered"][0]
    assert cut["num_truncated"] == 8 and data.tokenizer.num_seen == 0, "the data's own counts are not touched"


def test_other_data_than_those_of_the_training():
    """Pictures of another size and gray ones, their classes and their title; the splits end the key."""
    other = Numbered(num=12, num_classes=4, channels=1, size=16)
    other.title = "other-numbers"
    callback = ZeroShot(data=other, splits=["validation", "held_out"], templates=["{}"])
    record = validate(callback, Matcher())
    assert last(record, "val/zero_shot_other_numbers") == last(record, "val/zero_shot_other_numbers_held_out") == 1
    assert not record.values("val/zero_shot_top5_other_numbers"), "of four classes one is always among five"
    about = record.about["val/zero_shot_other_numbers_held_out"][0]
    assert about["split"] == "held_out" and about["data"] == "other-numbers" and about["image_size"] == "1x16x16"
    tested = validate(ZeroShot(data=other, splits=["validation", "held_out"], templates=["{}"]), Matcher(), stage="test")
    assert last(tested, "test/zero_shot_other_numbers") == 1
    assert tested.about["test/zero_shot_other_numbers"][0]["split"] == "test"
    assert tested.values("test/zero_shot_other_numbers_held_out")


@pytest.mark.parametrize("arguments, said", [
    ({"templates": []}, "ZeroShot: no template"),
    ({"templates": ["a photo"]}, "ZeroShot: the template 'a photo' has no {}"),
    ({"num_images": 0}, "ZeroShot: 0 images"),
])
def test_mistakes(arguments, said):
    with pytest.raises(ValueError, match=said):
        ZeroShot(**arguments)


def test_what_it_needs():
    with pytest.raises(ValueError, match=r"ZeroShot asks TinyModel for embed_images\(\) and embed_tokens"):
        validate(ZeroShot(), TinyModel())
    with pytest.raises(ValueError, match="ZeroShot needs a datamodule with a tokenizer, which TinyData has not"):
        validate(ZeroShot(), Matcher(), TinyData())
    with pytest.raises(ValueError, match="class_names: 2 names for the 8 classes of numbered"):
        validate(ZeroShot(class_names=["1", "2"]), Matcher())


def test_calibration_error_is_that_of_torchmetrics():
    generator = torch.Generator().manual_seed(0)
    for num_classes in (2, 10):
        logits = 3 * torch.randn(500, num_classes, generator=generator)
        labels = torch.randint(num_classes, (500,), generator=generator)
        probabilities = logits.softmax(1)
        confidence, said = probabilities.max(1)
        theirs = multiclass_calibration_error(probabilities, labels, num_classes, n_bins=15, norm="l1")
        assert calibration_error(confidence, said == labels) == pytest.approx(float(theirs), abs=1e-6)


def test_the_interval_covers_what_it_should():
    """Of a hundred samples of a share of .3, about 95 intervals hold it; and it is the same each time."""
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(100):
        values = torch.from_numpy((rng.random(150) < 0.3).astype(float))
        low, high = bootstrap(values)
        held += low <= 0.3 <= high
    assert 88 <= held <= 99 and (low, high) == bootstrap(values)
    assert bootstrap(torch.arange(101.0), lambda drawn: drawn.median(1).values)[0] > 30


def test_tokenizer_of_the_tests():
    tokens, mask = Numbers()(["3 4", "1 2 3 4 5"])
    assert mask.sum(1).tolist() == [2, 4] and tokens[0, :2].tolist() == [3, 4]
