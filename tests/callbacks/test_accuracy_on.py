"""A classifier's accuracy on other data, of a model whose answers are known in closed form."""

import numpy as np
import pytest

from callbacks.accuracy_on import AccuracyOn
from callbacks.class_accuracy import wilson
from tests.callbacks.tiny import Record, TinyData, TinyModel, trainer


class Turned(TinyData):
    """Every fifth picture is of another class than its label says."""

    def images(self, split: str) -> np.ndarray:
        images = super().images(split).copy()
        images[::5] = np.flip(images[::5], -1)
        return images


class Others(TinyData):
    class_names = ["a", "b"]


def validate(callback: AccuracyOn) -> Record:
    record = Record()
    trainer([callback], logger=record).validate(TinyModel(), datamodule=TinyData(), verbose=False)
    return record


def test_accuracies_are_those_of_the_closed_form():
    record = validate(AccuracyOn({"same": TinyData(), "turned": Turned(num=60)}, batch_size=7))
    assert record.values("val/accuracy_on_same")[-1][1] == 1
    assert record.values("val/accuracy_on_turned")[-1][1] == pytest.approx(0.8)
    assert record.tables["val/accuracy_on"][0][1] == [["same", 1.0, *wilson(200, 200), 200], ["turned", 0.8, *wilson(48, 60), 60]]
    record = validate(AccuracyOn({"turned": Turned(num=60)}, num_images=10))
    assert record.tables["val/accuracy_on"][0][1][0][-1] == 10


def test_mistakes_are_one_line():
    with pytest.raises(ValueError, match="the classes of other are not those of quadrants"):
        validate(AccuracyOn({"other": Others()}))
    with pytest.raises(ValueError, match="0 data sets"):
        AccuracyOn({})
