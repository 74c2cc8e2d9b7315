"""A line that says how far training is."""

from callbacks.training_progress import TrainingProgress, duration
from tests.callbacks.test_resumable import train


def test_progress_says_what_is_left(capsys):
    train(TrainingProgress("tiny", every=0.0), max_epochs=-1, max_steps=6)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("tiny: ")
    assert "6 steps" in lines[0]
    assert "tiny: step 3 of 6" in lines[3]
    assert "left" in lines[3]
    assert lines[-1].startswith("tiny: trained 6 steps in ")


def test_quiet_progress_says_nothing(capsys):
    train(TrainingProgress("tiny", quiet=True, every=0.0), max_epochs=1)
    assert "tiny" not in capsys.readouterr().err


def test_durations():
    assert [duration(seconds) for seconds in (0.4, 59, 61, 7_261)] == ["0 s", "59 s", "1 min 1 s", "2 h 1 min"]
