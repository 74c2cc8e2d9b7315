"""Experiments of practicum cut down to a few rows and images."""

from inspect import signature
from pydoc import locate

LIMITS = ["--trainer.max_steps", "2", "--trainer.val_check_interval", "2", "--trainer.limit_val_batches", "1",
          "--trainer.limit_test_batches", "1"]
SMALL = {   # arguments of callbacks that make their work small; by name, wherever a callback has one
    "num_generated": 20, "num_images": 20, "num_real": 40, "num_terms": 2, "num_bins": 3, "num_frames": 3, "rows": 1,
    "steps": [2], "skipped": [0.5], "max_rows": 2, "num_samples": 2, "num_train": 40,
}


def sized(data: str) -> list[str]:
    """Flags that make a data set small."""
    drawn = [f"--data.path.num_{split}={num}" for split, num in (("train", 200), ("validation", 50), ("test", 50))]
    return ["--data.limit", "200", "--data.image_size", "16", "--data.batch_size", "8", *(drawn if data.startswith("scenes") else [])]


def small(content: dict) -> dict:
    """The experiment with its evaluations cut down to a few images."""
    for callback in content.get("trainer", {}).get("callbacks", []):
        accepted = signature(locate(callback["class_path"])).parameters
        callback.setdefault("init_args", {}).update({key: value for key, value in SMALL.items() if key in accepted})
    content["model"]["init_args"] |= {"num_sampling_steps": 2} if "schedule" in content["model"]["init_args"] else {}
    return content
