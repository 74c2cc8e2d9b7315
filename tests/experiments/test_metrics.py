"""Which recorded values the report takes for measures of quality, and their names."""

import pytest

from experiments.page.metrics import metrics_of


class Logged:
    """A comparison whose runs have logged these keys."""

    def __init__(self, *keys: str) -> None:
        self.keys = keys

    def logged(self):
        return self.keys


@pytest.mark.parametrize("key, label", [
    ("val/zero_shot_scenes", "zero-shot accuracy, scenes (higher is better)"),
    ("val/zero_shot_scenes_held_out", "zero-shot accuracy, scenes held out (higher is better)"),
    ("test/zero_shot_top5_cifar10", "zero-shot accuracy among five, cifar10 (test) (higher is better)"),
    ("val/zero_shot_per_class_emoji", "zero-shot accuracy, mean over classes, emoji (higher is better)"),
    ("val/zero_shot_ece_scenes", "zero-shot calibration error, scenes (lower is better)"),
    ("val/image_to_text_at_1_scenes", "recall at 1, image to text, scenes (higher is better)"),
    ("val/text_to_image_at_10_scenes", "recall at 10, text to image, scenes (higher is better)"),
    ("val/text_to_image_median_emoji", "median rank, text to image, emoji (lower is better)"),
    ("val/clip_score_scenes_clip", "CLIP score, scenes clip (higher is better)"),
])
def test_measures_of_pictures_and_captions(key, label):
    assert [metric.label for metric in metrics_of(Logged(key))] == [label]


def test_what_is_no_measure():
    assert metrics_of(Logged("train/zero_shot_scenes", "val/real_clip_score_scenes_clip", "val/captions_cut_x", "val/scale")) == []
