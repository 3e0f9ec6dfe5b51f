"""Hyper-parameters, declared once: the ``training`` section of a recipe, which ``train`` takes as it is.

Imports nothing heavy: a recipe is checked before torch is loaded.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from flatcoat.retrieval.data.source import Positive

LossName = Literal["contrastive", "margin-mse", "distillation"]


class TrainingSettings(BaseModel):
    """How a model learns, for how long and how fast.

    Loss: ``contrastive`` learns from pairs and any negatives, ``margin-mse`` and ``distillation`` from a
    teacher's scores. Scores are divided by ``temperature``. ``symmetric`` also contrasts each document with
    the queries of the batch, ``gather`` takes negatives from all processes, ``matryoshka`` adds the same loss
    on these numbers of leading components of a dense vector. ``teachers`` are scorers by name, with their
    weights: "bm25", "start" (the model as training starts) or a checkpoint. A late-interaction model learns
    from their judgement of all documents of the batch as well, ``teacher_weight`` times the divergence
    (``losses``).

    Weights: ``frozen_layers`` keeps the embeddings and this many layers as they are; ``average`` is the decay
    of a moving average of the weights, which is evaluated and saved in their place (``average``).
    ``start_share`` is the share of the weights that a run started from in those that it ends with: what the
    model knew of other texts than those of the run is kept (weight-space ensembling, arXiv 2109.01903).

    Batches: ``batch_size`` counts queries per batch over all processes; an optimiser step takes
    ``gradient_accumulation`` batches; with ``max_steps`` 0 the model is saved as it starts.
    ``mini_batch_size`` (texts) or ``mini_batch_tokens`` bounds the memory per batch by gradient caching, at
    the price of a second forward. ``document_length`` (tokens) truncates documents in training only.

    Arithmetic: ``precision: auto`` is bf16 where the device has instructions for it, else fp32;
    ``weights_dtype`` is the dtype of the saved weights.

    Reports: every ``log_every`` steps losses are logged, to the loggers in ``log_to`` too; every
    ``save_every`` steps a checkpoint is saved, with dev sets every ``evaluate_every`` steps, after the
    evaluation. ``patience`` ends a run after this many evaluations without a better score.

    >>> TrainingSettings(batch_size=32, loss="distillation").needs_scores
    True
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    loss: LossName = "contrastive"
    symmetric: bool = False
    gather: bool = False
    matryoshka: tuple[Positive, ...] = ()
    teachers: dict[str, Annotated[float, Field(gt=0)]] = {}
    teacher_weight: Annotated[float, Field(gt=0)] = 0.3
    frozen_layers: Annotated[int, Field(ge=0, le=1_000)] = 0
    average: Annotated[float, Field(gt=0, lt=1)] | None = None
    start_share: Annotated[float, Field(ge=0, lt=1)] = 0
    batch_size: Positive = 16
    gradient_accumulation: Positive = 1
    epochs: Annotated[float, Field(gt=0, le=1e6)] = 1
    max_steps: Annotated[int, Field(ge=0, lt=2**31)] | None = None
    learning_rate: Annotated[float, Field(gt=0)] = 8e-5
    warmup: Annotated[float, Field(ge=0, le=1)] = 0.05
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    temperature: Annotated[float, Field(gt=0)] = 1.0
    document_length: Positive | None = None
    mini_batch_size: Positive | None = None
    mini_batch_tokens: Positive | None = None
    gradient_checkpointing: bool = False
    precision: Literal["auto", "fp32", "bf16"] = "fp32"
    weights_dtype: Literal["fp32", "fp16"] = "fp32"
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 42
    log_every: Positive = 10
    log_to: tuple[Literal["tensorboard", "wandb"], ...] = ()
    save_every: Positive = 500
    evaluate_every: Positive = 500
    patience: Positive | None = None

    @model_validator(mode="after")
    def _consistent(self) -> "TrainingSettings":
        if self.mini_batch_size is not None and self.mini_batch_tokens is not None:
            raise ValueError("name mini_batch_size (texts) or mini_batch_tokens, not both")
        if self.loss != "contrastive" and (self.symmetric or self.gather):
            raise ValueError(f"symmetric and gather are for loss: contrastive, not {self.loss}")
        if self.teachers and (self.loss != "contrastive" or self.gather):
            raise ValueError("teachers are for loss: contrastive without gather")
        return self

    @property
    def needs_scores(self) -> bool:
        """Whether rows must carry a teacher's scores."""
        return self.loss != "contrastive"
