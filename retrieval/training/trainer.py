"""sentence-transformers' trainer with our order of batches, stopped by the first NaN or infinity.

A loss, a gradient or a weight that is NaN or infinite never recovers: the run stops before the optimiser step
that would carry it into the weights, and the error names the rows of the step.
"""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather_object
from sentence_transformers import SentenceTransformerTrainer
from torch import Tensor, nn

from flatcoat.errors import FlatcoatError
from flatcoat.retrieval.data.examples import PLACE

from .average import WeightAverage
from .batches import MixedBatches
from .callbacks import last_checkpoint

_ROWS_NAMED = 8
"""Rows that an error names; it counts the others."""

_ROWS_CHECKED = 8
"""Rows of the last batch that check the weights: enough for any loss, in little memory."""


class Trainer(SentenceTransformerTrainer):
    """Trains on ``batches`` batches that carry the places of their rows, sources mixed by ``shares``.

    With ``average`` that is what is evaluated, and what the model has at the end. ``options`` go to
    ``SentenceTransformerTrainer``.
    """

    def __init__(
        self, *, shares: Sequence[float], batches: int, average: WeightAverage | None = None, **options: Any
    ) -> None:
        super().__init__(**options)
        self._average = average
        if average is not None:
            self.add_callback(average)
        self._shares = shares
        self._batches = batches
        self._batch: dict[str, Any] = {}
        self._places_of_step: list[str] = []

    def get_multi_dataset_batch_sampler(
        self, dataset: Any, batch_samplers: Any, generator: Any = None, seed: int | None = 0
    ) -> MixedBatches:
        return MixedBatches(
            dataset,
            batch_samplers,
            generator=generator,
            seed=seed or 0,
            batches=self._batches,
            shares=self._shares,
        )

    def add_model_card_callback(self, default_args_dict: dict[str, Any]) -> None: ...

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Raises FlatcoatError, in every process, if the loss of any process is not finite."""
        places = inputs.pop(PLACE)
        self._batch = dict(inputs)
        self._places_of_step += places
        loss: Any = super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        self._require_finite(loss, f"step {self.state.global_step + 1}: the loss", places, by_row=True)
        return loss

    def training_step(
        self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Any = None
    ) -> Tensor:
        """Raises FlatcoatError if the norm of an optimiser step's gradients is not finite."""
        loss = super().training_step(model, inputs, num_items_in_batch)
        if self.accelerator.sync_gradients:
            # Before clipping, which divides by the norm: an infinite one would turn all gradients into 0.
            gradients = [weights.grad for weights in model.parameters() if weights.grad is not None]
            norm = nn.utils.get_total_norm(gradients)
            self._require_finite(
                norm, f"step {self.state.global_step + 1}: the gradient norm", self._places_of_step
            )
            self._places_of_step = []
        return loss

    def require_sound(self) -> None:
        """Raises FlatcoatError if the weights, or the loss of the last batch under them, are not finite.

        The last optimiser step may have left finite weights whose forward overflows, and no next step would
        show it.
        """
        step = f"after step {self.state.global_step}: the"
        for name, weights in self.model.named_parameters():
            self._require_finite(weights.sum(), f"{step} weights {name}", [])
        if self._batch:
            self._require_finite(self._loss_of(slice(_ROWS_CHECKED)), f"{step} loss", [])

    def _loss_of(self, part: slice) -> Tensor:
        """The loss of some rows of the last batch; without dropout, whose random numbers the run needs."""
        training = self.model.training
        self.model.eval()
        rows = {name: values[part] for name, values in self._batch.items()}
        wrapped: Any = self.model_wrapped
        with torch.no_grad(), self.compute_loss_context_manager():
            loss: Any = super().compute_loss(wrapped, rows)
        self.model.train(training)
        return loss

    def _require_finite(self, value: Tensor, what: str, places: Sequence[str], by_row: bool = False) -> None:
        """Raises FlatcoatError if ``value`` of any process is not finite, and names the rows at ``places``.

        ``by_row`` names only the rows whose loss is not finite by itself, if there are any.
        """
        values: Any = self.accelerator.gather(value.detach().reshape(1).float())
        bad = values[~values.isfinite()]
        if not len(bad):
            return
        culprits = [
            place
            for row, place in enumerate(places if by_row else ())
            if not self._loss_of(slice(row, row + 1)).isfinite()
        ]
        rows = _in_rows(gather_object(culprits) or gather_object(list(places)))
        raise FlatcoatError(
            f"{what} is {bad[0].item():g}{rows}. Lower training.learning_rate ({self.args.learning_rate:g}), "
            f"or mend the rows; {self._before()}"
        )

    def _before(self) -> str:
        checkpoint = last_checkpoint(Path(str(self.args.output_dir)))
        return f"the last checkpoint is {checkpoint}" if checkpoint else "no checkpoint was written before"

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        self.require_sound()
        super()._save_checkpoint(model, trial)
        if self._average is not None and self.is_world_process_zero():
            self._average.save(Path(str(self.args.output_dir)) / f"checkpoint-{self.state.global_step}")

    def _load_from_checkpoint(self, checkpoint_path: str) -> None:
        super()._load_from_checkpoint(checkpoint_path)
        if self._average is not None:
            self._average.load(Path(checkpoint_path))

    def evaluate(self, *args: Any, **options: Any) -> dict[str, float]:
        with nullcontext() if self._average is None else self._average.in_place():
            return super().evaluate(*args, **options)

    def finish(self) -> None:
        """Give the model its final weights; raises as ``require_sound``."""
        if self._average is not None:
            self._average.apply()
        self.require_sound()

    def _save(self, output_dir: str | None = None, state_dict: Mapping[str, Any] | None = None) -> None:
        self.model.save(str(output_dir), create_model_card=False)


def _in_rows(places: Sequence[str]) -> str:
    if not places:
        return ""
    more = len(places) - _ROWS_NAMED
    return f" in the rows {', '.join(places[:_ROWS_NAMED])}{f' and {more} more' if more > 0 else ''}"
