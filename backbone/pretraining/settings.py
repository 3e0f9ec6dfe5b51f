"""What a pretraining recipe says: text, tokenizer, shape, phases and how to optimise, declared once.

Defaults are the paper's (arXiv 2412.13663, appendix A) where it states a value. Imports nothing heavy: a
recipe is checked before torch is loaded. Sizes are in tokens, special tokens included.
"""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Tokens = Annotated[int, Field(gt=0, lt=2**63)]
Size = Annotated[int, Field(gt=0, lt=2**31)]
Share = Annotated[float, Field(gt=0, lt=1)]
Rate = Annotated[float, Field(gt=0)]

_KINDS = ("files", "jsonl", "parquet", "hub")


class Section(BaseModel):
    """A part of a recipe: unknown keys are errors, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class TextSource(Section):
    """Running text from one place: text files, JSONL or Parquet files, or a data set of the hub.

    ``files``, ``jsonl`` and ``parquet`` are patterns below the data root, as in "novels/*.txt", without the
    files that ``exclude`` matches. ``documents`` says what of a text file is one document: the file, each
    paragraph (between blank lines) or each line. ``text`` is the column of rows. The hub is streamed.
    ``weight`` is the source's share of the tokens relative to other sources, by default its size.

    >>> TextSource(files=("novels/*.txt",)).label
    'novels'
    """

    files: tuple[str, ...] = ()
    jsonl: tuple[str, ...] = ()
    parquet: tuple[str, ...] = ()
    hub: str | None = None
    subset: str | None = None
    split: str = "train"
    revision: str | None = None
    exclude: tuple[str, ...] = ()
    documents: Literal["file", "paragraph", "line"] = "file"
    text: str = "text"
    weight: Rate | None = None
    licence: str = ""

    @model_validator(mode="after")
    def _one_kind(self) -> "TextSource":
        if sum(bool(getattr(self, kind)) for kind in _KINDS) != 1:
            raise ValueError(f"name exactly one of {', '.join(_KINDS)}")
        if self.documents != "file" and not self.files:
            raise ValueError("documents is for files: rows are documents themselves")
        return self

    @property
    def label(self) -> str:
        """A short name for logs and folders."""
        if self.hub:
            return self.hub.rpartition("/")[-1]
        path = Path((self.files or self.jsonl or self.parquet)[0])
        name = path.parent.name or path.stem
        return "".join(character for character in name if character.isalnum() or character in "-_") or "text"


class TokenizerSettings(Section):
    """A new byte-level BPE tokenizer, trained on the recipe's text, or (``base``) that of a checkpoint.

    ``vocab_size`` counts all entries, special and ``unused`` ones too; it is a multiple of 64.
    """

    base: str | None = None
    vocab_size: Annotated[int, Field(ge=384, le=1 << 20, multiple_of=64)] = 50_368
    unused: Annotated[int, Field(ge=0, le=10_000)] = 83


class ModelSettings(Section):
    """A shape: a preset of ``flatcoat.backbone.config`` with some sizes changed.

    ``attention_dropout`` follows the output of attention, in training only: it is saved as 0. ``tiled`` names
    a smaller checkpoint whose weights fill the model (``tiling``), as the paper's base began its large.
    """

    preset: str = "modernbert-base"
    hidden_size: Size | None = None
    intermediate_size: Size | None = None
    num_hidden_layers: Size | None = None
    num_attention_heads: Size | None = None
    local_attention: Size | None = None
    attention_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    tiled: str | None = None


class Phase(Section):
    """A stretch of training with one length and one learning rate; phases follow one another.

    A phase continues where the one before it ended, or where ``start`` (an earlier phase) did, with its
    optimiser. The learning rate rises over ``warmup_tokens``, stays, and with ``decay`` "1-sqrt" falls over
    the whole phase to ``final`` times its value: annealing. The batch grows from ``first_batch_tokens`` to
    ``batch_tokens`` over ``batch_warmup_tokens``, by as many steps for each size. ``global_rope_theta``
    changes the rotary base of global layers, as context extension does. ``data`` replaces the recipe's.
    The phase's checkpoint is the mean of its last ``average`` saved states.

    >>> Phase(name="stable", tokens=1_000_000, learning_rate=8e-4, batch_tokens=4096).length
    1024
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w.-]{0,99}$")]
    tokens: Tokens
    learning_rate: Rate
    batch_tokens: Tokens
    length: Annotated[int, Field(ge=8, lt=2**31)] = 1024
    warmup_tokens: Annotated[int, Field(ge=0)] = 0
    decay: Literal["none", "1-sqrt"] = "none"
    final: Annotated[float, Field(ge=0, le=1)] = 0.001
    weight_decay: Annotated[float, Field(ge=0)] = 1e-5
    first_batch_tokens: Tokens | None = None
    batch_warmup_tokens: Annotated[int, Field(ge=0)] = 0
    global_rope_theta: Rate | None = None
    start: str | None = None
    average: Size = 1
    data: tuple[TextSource, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> "Phase":
        if (self.first_batch_tokens is None) != (self.batch_warmup_tokens == 0):
            raise ValueError("first_batch_tokens and batch_warmup_tokens go together: name both or neither")
        if self.first_batch_tokens is not None and self.first_batch_tokens > self.batch_tokens:
            raise ValueError("first_batch_tokens is larger than batch_tokens: batches grow")
        return self


class MaskedTokens(Section):
    """Plain masked language modelling."""

    kind: Literal["mlm"] = "mlm"


class Distillation(Section):
    """Learn from a ``teacher``, any checkpoint that flatcoat reads, with the same tokenizer.

    ``match`` its logits at masked tokens (the teacher sees the same masks; divided by ``temperature``), its
    token vectors or its sentence vectors (of the text without masks). The divergence counts ``weight``,
    masked language modelling 1 - ``weight``.
    """

    kind: Literal["distillation"]
    teacher: str
    match: Literal["logits", "tokens", "sentences"] = "logits"
    weight: Annotated[float, Field(gt=0, le=1)] = 0.5
    temperature: Rate = 1.0


class ReplacedTokens(Section):
    """ELECTRA (arXiv 2003.10555): tell which tokens a small generator has replaced.

    The generator has the model's depth and ``generator`` times its width, in whole heads; both train
    together, the discriminator's loss counting ``weight`` times. The discriminator's encoder is saved.
    """

    kind: Literal["replaced-tokens"]
    generator: Annotated[float, Field(gt=0, le=1)] = 0.25
    weight: Rate = 50.0


Objective = Annotated[MaskedTokens | Distillation | ReplacedTokens, Field(discriminator="kind")]


class Optimization(Section):
    """StableAdamW and the arithmetic around it.

    Weights and optimiser states are float32; ``precision`` "bf16" computes in bfloat16 under autocast, "auto"
    does where the device has instructions for it. ``micro_batch_tokens`` go through the model at once: a step
    takes as many packed batches of this size as its batch has tokens. ``parallel`` is how processes under
    torchrun share the work: "ddp" keeps the model whole in each, "fsdp" shards it.
    """

    betas: tuple[Share, Share] = (0.9, 0.98)
    eps: Rate = 1e-6
    micro_batch_tokens: Size = 16_384
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    gradient_checkpointing: bool = False
    compile: bool = False
    parallel: Literal["ddp", "fsdp"] = "ddp"


class Masking(Section):
    """Shares of the tokens that are predicted: of these 80 % are masked, 10 % replaced, 10 % left alone."""

    share: Share = 0.3
    evaluation_share: Share = 0.15
    whole_words: bool = False


class Watching(Section):
    """How often, in steps, figures are logged, held-back text is scored and states are saved.

    ``evaluation_tokens`` bounds the held-back text that is scored. ``log_to`` names loggers beside the run's
    own ``log.jsonl``.
    """

    log_every: Size = 10
    evaluate_every: Size = 500
    evaluation_tokens: Tokens = 1_000_000
    save_every: Size = 500
    log_to: tuple[Literal["tensorboard", "wandb"], ...] = ()


class PretrainingSettings(Section):
    """All that a run needs: a model to start from (``base``, or ``model`` and ``tokenizer``) and what to do.

    Paths are relative to ``data_root``. ``held_back`` is text to score, never to train on. ``shards`` is
    where tokenised text is kept, by default in the run's folder; runs with the same tokenizer may share it.
    """

    base: str | None = None
    model: ModelSettings | None = None
    tokenizer: TokenizerSettings | None = None
    data_root: Path = Path()
    data: Annotated[tuple[TextSource, ...], Field(min_length=1)]
    held_back: tuple[TextSource, ...] = ()
    shards: Path | None = None
    objective: Objective = MaskedTokens()
    masking: Masking = Masking()
    optimization: Optimization = Optimization()
    phases: Annotated[tuple[Phase, ...], Field(min_length=1)]
    watching: Watching = Watching()
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 42

    @model_validator(mode="after")
    def _one_start(self) -> "PretrainingSettings":
        if (self.base is None) == (self.model is None):
            raise ValueError("name exactly one of base (a checkpoint) and model (random weights)")
        if self.base is not None and self.tokenizer is not None:
            raise ValueError("a base has a tokenizer of its own: leave tokenizer out")
        if self.base is not None and self.objective.kind == "replaced-tokens":
            raise ValueError("replaced tokens are learnt from random weights: name a model, not a base")
        return self

    @model_validator(mode="after")
    def _phases_in_order(self) -> "PretrainingSettings":
        names: list[str] = []
        for phase in self.phases:
            if phase.name in names:
                raise ValueError(f"two phases are named {phase.name}: give each a name of its own")
            if phase.start is not None and phase.start not in names:
                raise ValueError(f"phase {phase.name} starts from {phase.start}, which is no earlier phase")
            if phase.length > self.optimization.micro_batch_tokens:
                raise ValueError(
                    f"phase {phase.name} has sequences of {phase.length} tokens, "
                    f"optimization.micro_batch_tokens is {self.optimization.micro_batch_tokens}"
                )
            names.append(phase.name)
        return self

    def rope_theta(self, phase: Phase) -> float | None:
        """The rotary base of a phase: its own, else that of the phase it starts from; None: the model's."""
        if phase.global_rope_theta is not None:
            return phase.global_rope_theta
        place = self.phases.index(phase)
        if phase.start is not None:
            place = 1 + [one.name for one in self.phases].index(phase.start)
        return self.rope_theta(self.phases[place - 1]) if place else None
