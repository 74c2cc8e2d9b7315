"""What hurry costs: Fréchet distance against the number of sampling steps, and against the share of the chain that is
left out."""

from __future__ import annotations

from lightning.pytorch import LightningModule, Trainer

from callbacks.evaluation import Evaluation, RealImages, declaration, sampling_declaration
from callbacks.extractors import Extractor
from callbacks.fid import generated_features, real_reference
from callbacks.frechet import Gaussian, frechet_distance
from callbacks.media import declare, log_table
from callbacks.protocols import Samples


class SamplingCurves(Evaluation):
    """Logs the tables `val/fd_by_steps` (steps, fd) and `val/fd_by_skipped` (skipped, fd), by default at the last
    validation alone.

    `skipped` is the share of the chain left out at its noisy end: sampling begins at clock value 1 - skipped, with
    pure noise (improved DDPM, 2102.09672, figure 4). Each point draws `num_generated` images from the same noise: a
    small number, so the values stand among themselves and not beside `val/fd_...`.
    """

    protocols = (Samples,)

    def __init__(
        self,
        extractor: Extractor,
        steps: list[int] | None = None,
        skipped: list[float] | None = None,
        num_generated: int = 500,
        batch_size: int = 256,
        seed: int = 0,
        only_last: bool = True,
    ) -> None:
        super().__init__(only_last)
        self.extractor = extractor
        self.steps = [2, 5, 10, 20, 50] if steps is None else steps
        self.skipped = [0.0, 0.05, 0.1, 0.2, 0.4, 0.6] if skipped is None else skipped
        if any(step < 1 for step in self.steps):
            raise ValueError(f"SamplingCurves: steps {self.steps} are not all positive")
        if any(not 0 <= share < 1 for share in self.skipped):
            raise ValueError(f"SamplingCurves: skipped {self.skipped} are not all shares in [0, 1)")
        if num_generated < 2:
            raise ValueError(f"SamplingCurves: {num_generated} images are too few; take 100 or more")
        self.num_generated, self.batch_size, self.seed = num_generated, batch_size, seed

    def evaluate(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        real = RealImages.of(trainer, "test" if stage == "test" else "validation")
        reference = real_reference(self.extractor, real, len(real), self.batch_size, pl_module.device).gaussian

        def distance(what: str, num_steps: int | None = None, start: float = 1.0) -> float:
            features = generated_features(
                trainer,
                pl_module,
                self.extractor,
                real,
                self.num_generated,
                asker=self,
                batch_size=self.batch_size,
                seed=self.seed,
                what=f"{stage}: {self.extractor.key} {what}",
                num_steps=num_steps,
                start=start,
            )
            return frechet_distance(Gaussian.fit(features), reference)

        by_steps = [[steps, distance(f"with {steps} steps", num_steps=steps)] for steps in self.steps]
        by_skipped = [
            [share, distance(f"with {share:.0%} of the chain skipped", start=1 - share)] for share in self.skipped
        ]
        about = {
            "num_generated": self.num_generated,
            "num_real": len(real),
            **self.extractor.about(),
            **declaration(trainer, real),
            **sampling_declaration(trainer, pl_module, self.seed),
        }
        for key, column, rows in (("fd_by_steps", "steps", by_steps), ("fd_by_skipped", "skipped", by_skipped)):
            if rows:
                log_table(trainer, f"{stage}/{key}", [column, "fd"], rows)
                declare(trainer, f"{stage}/{key}", about)
