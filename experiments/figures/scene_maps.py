"""What is known of every pixel of a scene: masks, depth, normals, edges, lines, a scribble, poses"""

import numpy as np

from datamodules.scenes import drawing, labels
from datamodules.scenes.dataset import Scenes
from experiments.drawing import Drawn
from experiments.figures._picture_rows import picture_rows

INDEX = np.array([4, 7, 8, 17, 19, 30])
SIZE = 128


def draw(runs: dict) -> Drawn:
    scenes = Scenes().describe("train", INDEX)
    maps = np.stack([drawing.draw(scenes, SIZE), *(labels.picture(scenes, SIZE, name) for name in labels.MAPS)])  # a row each
    columns = [(f"scene {index}", pictures) for index, pictures in zip(INDEX, maps.swapaxes(0, 1), strict=True)]
    names = ["picture", *(name.replace("_", " ") for name in labels.MAPS)]
    return Drawn(picture_rows(columns, names), {"split": "train", "index": INDEX.tolist(), "maps": names})
