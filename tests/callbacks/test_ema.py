import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import ModelCheckpoint

from callbacks.ema import EMA, weights_in_use
from tests.callbacks.tiny import TinyData, TinyModel, trainer


class Script(Callback):
    """Sets the weight to 1, 2, 3, ... after each optimiser step, before EMA sees it."""

    def on_train_start(self, trainer, pl_module):
        self.seen = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        pl_module.network.weight.data.fill_(float(trainer.global_step))


class Witness(Callback):
    """An evaluator: notes the weight it sees at each validation's end."""

    def __init__(self):
        self.seen = []

    def on_validation_epoch_end(self, trainer, pl_module):
        if not trainer.sanity_checking:
            self.seen.append(pl_module.network.weight.item())


def model_at_zero() -> TinyModel:
    model = TinyModel()
    model.network.weight.data.zero_()
    return model


def closed_form(num_steps: int, decay: float, warm_up: bool) -> float:
    average = 0.0
    for n in range(num_steps):
        d = min(decay, (1 + n) / (10 + n)) if warm_up else decay
        average = d * average + (1 - d) * (n + 1)
    return average


@pytest.mark.parametrize("ema_first", [True, False])
@pytest.mark.parametrize("warm_up", [True, False])
def test_an_evaluator_sees_the_average_in_either_order(ema_first, warm_up):
    ema, before, after = EMA(0.3, warm_up), Witness(), Witness()
    fit = trainer([Script(), before, ema, after] if ema_first else [before, Script(), after, ema], max_epochs=2)
    fit.fit(model_at_zero(), datamodule=TinyData())
    expected = [closed_form(10, 0.3, warm_up), closed_form(20, 0.3, warm_up)]
    assert before.seen == pytest.approx(expected, rel=1e-6)
    assert after.seen == pytest.approx(expected, rel=1e-6)
    # golden: with a constant decay d, after n steps of weights 1..n from 0: n - d (1 - d^n) / (1 - d)
    if not warm_up:
        assert before.seen[0] == pytest.approx(10 - 0.3 * (1 - 0.3**10) / 0.7, rel=1e-6)


def test_training_goes_on_from_raw_weights_and_fit_leaves_the_average():
    raw, ema = [], EMA(0.5)

    class Raw(Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            raw.append(pl_module.network.weight.item())

    fit = trainer([Script(), Raw(), ema], max_epochs=2)
    model = model_at_zero()
    fit.fit(model, datamodule=TinyData())
    assert raw == [float(step) for step in range(20)]  # step 10, the first after a validation, too
    assert model.network.weight.item() == pytest.approx(closed_form(20, 0.5, True), rel=1e-6)
    witness = Witness()
    fit.callbacks.append(witness)
    fit.validate(model, datamodule=TinyData(), verbose=False)
    assert witness.seen == pytest.approx([closed_form(20, 0.5, True)], rel=1e-6)
    assert weights_in_use(fit) == "averaged (EMA 0.5)"


def test_works_without_validation():
    model = model_at_zero()
    trainer([Script(), EMA(0.5)], limit_val_batches=0).fit(model, datamodule=TinyData())
    assert model.network.weight.item() == pytest.approx(closed_form(10, 0.5, True), rel=1e-6)


@pytest.mark.parametrize("on_step", [True, False])
def test_a_checkpoint_holds_both_and_a_resumed_run_ends_the_same(tmp_path, on_step):
    """on_step saves in mid-epoch with raw weights in the model; otherwise after validation."""
    save = ModelCheckpoint(
        tmp_path, save_top_k=-1, **({"every_n_train_steps": 10} if on_step else {"every_n_epochs": 1})
    )
    model = model_at_zero()
    trainer([Script(), EMA(0.9), save], max_epochs=3, enable_checkpointing=True).fit(model, datamodule=TinyData())
    straight = model.network.weight.item()
    path = tmp_path / "epoch=0-step=10.ckpt"
    checkpoint = torch.load(path, weights_only=False)
    assert checkpoint["state_dict"]["network.weight"].item() == pytest.approx(closed_form(10, 0.9, True), rel=1e-6)
    assert checkpoint["current_model_state"]["network.weight"].item() == 10.0
    last = torch.load(tmp_path / "epoch=2-step=30.ckpt", weights_only=False)
    assert last["state_dict"]["network.weight"].item() == pytest.approx(straight, rel=1e-6)
    assert last["current_model_state"]["network.weight"].item() == 30.0

    class Raw(Callback):
        def on_train_start(self, trainer, pl_module):
            self.weight = pl_module.network.weight.item()

    resumed, ema, raw = model_at_zero(), EMA(0.9), Raw()
    run = trainer([Script(), ema, raw], max_epochs=3)
    run.fit(resumed, datamodule=TinyData(), ckpt_path=path, weights_only=False)
    assert raw.weight == 10.0  # training goes on from the raw weights, not from their average
    assert ema.num_updates == 30
    assert resumed.network.weight.item() == straight
    # loaded for evaluation: the average, no swap
    witness = Witness()
    trainer([EMA(0.9), witness]).validate(
        model_at_zero(), datamodule=TinyData(), ckpt_path=path, weights_only=False, verbose=False
    )
    assert witness.seen == pytest.approx([closed_form(10, 0.9, True)], rel=1e-6)


def test_a_save_during_validation_or_after_fit_is_not_upside_down(tmp_path):
    class SaveInValidation(Callback):
        def on_validation_epoch_end(self, trainer, pl_module):
            trainer.save_checkpoint(tmp_path / "in.ckpt")

    fit = trainer([Script(), EMA(0.9), SaveInValidation()], num_sanity_val_steps=0)
    fit.fit(model_at_zero(), datamodule=TinyData())
    fit.save_checkpoint(tmp_path / "after.ckpt")
    for name in ("in.ckpt", "after.ckpt"):
        checkpoint = torch.load(tmp_path / name, weights_only=False)
        assert checkpoint["state_dict"]["network.weight"].item() == pytest.approx(closed_form(10, 0.9, True), rel=1e-6)
        assert checkpoint["current_model_state"]["network.weight"].item() == 10.0


def test_frozen_weights_are_not_copied_and_accumulation_counts_optimiser_steps():
    model, ema = model_at_zero(), EMA(0.9)
    model.network.bias.requires_grad_(False)
    trainer([Script(), ema], accumulate_grad_batches=5).fit(model, datamodule=TinyData())
    assert ema.num_updates == 2
    assert [tuple(average.shape) for average in ema._averages] == [(1, 1)]


def test_an_interrupted_validation_restores_the_raw_weights():
    class Fail(Callback):
        def on_validation_epoch_end(self, trainer, pl_module):
            raise RuntimeError("stop")

    model = model_at_zero()
    with pytest.raises(RuntimeError, match="stop"):
        trainer([Script(), EMA(0.9), Fail()], num_sanity_val_steps=0).fit(model, datamodule=TinyData())
    assert model.network.weight.item() == 10.0


def test_decay_out_of_range():
    with pytest.raises(ValueError, match="is not in"):
        EMA(1.5)
