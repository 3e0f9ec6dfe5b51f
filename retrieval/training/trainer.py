"""sentence-transformers' trainer with our order of batches, and an end where a number is none.

A loss, a gradient or a weight that is NaN or infinite never mends itself: the run stops before the step that
would take it into the weights, and says which rows were at hand.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather_object
from sentence_transformers import SentenceTransformerTrainer
from torch import Tensor, nn

from flatcoat.errors import FlatcoatError
from flatcoat.retrieval.data.examples import PLACE

from .batches import MixedBatches
from .callbacks import last_checkpoint

_ROWS_NAMED = 8
_ROWS_TRIED = 8
"""Of a batch, to see whether weights still give numbers: enough for any loss, in little memory."""


class Trainer(SentenceTransformerTrainer):
    """Trains on batches that carry the places of their rows, mixed by ``shares``, ``batches`` in all."""

    shares: list[float]
    batches: int

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._batch: dict[str, Any] = {}
        self._places_of_step: list[str] = []

    def get_multi_dataset_batch_sampler(
        self, dataset: Any, batch_samplers: Any, generator: Any = None, seed: int | None = 0
    ) -> MixedBatches:
        return MixedBatches(dataset, batch_samplers, generator, seed or 0, self.batches, self.shares)

    def add_model_card_callback(self, default_args_dict: dict[str, Any]) -> None: ...

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Raises FlatcoatError, in every process, where the loss of any is not finite."""
        places = inputs.pop(PLACE)
        self._batch = dict(inputs)
        self._places_of_step += places
        loss: Any = super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        self._require_finite(loss, f"step {self.state.global_step + 1}: the loss", places, odd_alone=True)
        return loss

    def training_step(
        self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Any = None
    ) -> Tensor:
        """Raises FlatcoatError where the norm of a whole step's gradients is not finite."""
        loss = super().training_step(model, inputs, num_items_in_batch)
        if self.accelerator.sync_gradients:
            # Before they are clipped: what is divided by an infinite norm is 0, and looks well.
            gradients = [weights.grad for weights in model.parameters() if weights.grad is not None]
            norm = nn.utils.get_total_norm(gradients)
            self._require_finite(
                norm, f"step {self.state.global_step + 1}: the gradient norm", self._places_of_step
            )
            self._places_of_step = []
        return loss

    def require_sound(self) -> None:
        """Raises FlatcoatError where weights, or the loss that they give the rows seen last, are not finite.

        A step can make weights from which the next forward alone would show that they are worthless.
        """
        step = f"after step {self.state.global_step}: the"
        for name, weights in self.model.named_parameters():
            self._require_finite(weights.sum(), f"{step} weights {name}", [])
        if self._batch:
            self._require_finite(self._loss_of(slice(_ROWS_TRIED)), f"{step} loss", [])

    def _loss_of(self, part: slice) -> Tensor:
        """The loss of rows of the last batch, without dropout, which would draw random numbers."""
        training = self.model.training
        self.model.eval()
        rows = {name: values[part] for name, values in self._batch.items()}
        wrapped: Any = self.model_wrapped
        with torch.no_grad(), self.compute_loss_context_manager():
            loss: Any = super().compute_loss(wrapped, rows)
        self.model.train(training)
        return loss

    def _require_finite(
        self, value: Tensor, what: str, places: Sequence[str], odd_alone: bool = False
    ) -> None:
        """Names the rows whose loss is odd alone, where there are any, else all."""
        values: Any = self.accelerator.gather(value.detach().reshape(1).float())
        odd = values[~values.isfinite()]
        if not len(odd):
            return
        alone = [
            place
            for row, place in enumerate(places if odd_alone else ())
            if not self._loss_of(slice(row, row + 1)).isfinite()
        ]
        rows = _in_rows(gather_object(alone) or gather_object(list(places)))
        raise FlatcoatError(
            f"{what} is {odd[0].item():g}{rows}. Lower training.learning_rate ({self.args.learning_rate:g}), "
            f"or mend the rows; {self._before()}"
        )

    def _before(self) -> str:
        checkpoint = last_checkpoint(Path(str(self.args.output_dir)))
        return f"the last checkpoint is {checkpoint}" if checkpoint else "no checkpoint was written before"

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        self.require_sound()
        super()._save_checkpoint(model, trial)

    def _save(self, output_dir: str | None = None, state_dict: Mapping[str, Any] | None = None) -> None:
        self.model.save(str(output_dir), create_model_card=False)


def _in_rows(places: Sequence[str]) -> str:
    if not places:
        return ""
    more = len(places) - _ROWS_NAMED
    return f" in the rows {', '.join(places[:_ROWS_NAMED])}{f' and {more} more' if more > 0 else ''}"
