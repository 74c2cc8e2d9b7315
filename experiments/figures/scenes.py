"""The scenes world: the same descriptions drawn at 16, 32, 64 and 128 px"""

import numpy as np

from datamodules.scenes import drawing
from datamodules.scenes.dataset import Scenes
from experiments.drawing import Drawn
from experiments.figures._picture_rows import picture_rows

INDEX = np.array([2, 4, 7, 8, 17, 19, 23, 30])


def draw(runs: dict) -> Drawn:
    world = Scenes()
    captions = [row["caption"][0] for row in world.rows("train", INDEX, 16)]
    scenes = world.describe("train", INDEX)
    rows = [(f"{size} px", drawing.draw(scenes, size)) for size in (16, 32, 64, 128)]
    return Drawn(picture_rows(rows, captions), {"split": "train", "index": INDEX.tolist(), "captions": captions})
