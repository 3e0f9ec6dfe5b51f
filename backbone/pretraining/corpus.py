"""The text of a run: shards of all sources, the steps of each phase over them, batches of held-back text."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .batches import Loader, MaskedBatch, PhasePlan
from .masking import Masker
from .packer import BestFitPacker
from .settings import Phase, PretrainingSettings, TextSource
from .shards import Shards
from .start import OnProgress, prepare_shards
from .stream import SPECIAL, SequenceStream, Span, sequences_in_order

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

_PHASE_SEED = 1_000_003
"""Between the seeds of phases: each reads the text in another order, and masks it anew."""


class Corpus:
    """Tokenises what is not yet, and plans batches. Raises as ``prepare_shards`` does."""

    def __init__(
        self,
        settings: PretrainingSettings,
        tokenizer: "PreTrainedTokenizerFast",
        *,
        folder: Path,
        on_progress: OnProgress = lambda what: None,
    ):
        self.tokenizer = tokenizer
        self._settings, self._folder, self._on_progress = settings, folder, on_progress
        self._shards = {sources: self._prepare(sources) for sources in self._all_sources()}

    def plan(self, phase: Phase) -> PhasePlan:
        """The steps of a phase, from its beginning."""
        settings, sources = self._settings, phase.data or self._settings.data
        seed = settings.seed + _PHASE_SEED * settings.phases.index(phase)
        masking, shards = settings.masking, self._shards[sources]
        stream = SequenceStream(
            shards, weights=[source.weight for source in sources], length=phase.length, seed=seed
        )
        masker = Masker.of(self.tokenizer, masking.share, whole_words=masking.whole_words)
        loader = self._loader(shards, masker, seed)
        return PhasePlan(phase, stream, loader, micro_batch_tokens=settings.optimization.micro_batch_tokens)

    def evaluation(self, length: int) -> list[MaskedBatch]:
        """Batches of held-back text, the same every time, at the evaluation's share of masks."""
        settings, shards = self._settings, self._shards[self._settings.held_back]
        packer = BestFitPacker[Span](settings.optimization.micro_batch_tokens)
        packs: list[list[Span]] = []
        left = settings.watching.evaluation_tokens
        for number, source in enumerate(shards):
            for span in sequences_in_order(source, length=length):
                tokens = span.length + SPECIAL
                if tokens <= left:
                    left -= tokens
                    packs += filter(None, [packer.add(span._replace(source=number), tokens)])
        packs += packer.flush()
        masker = Masker.of(self.tokenizer, settings.masking.evaluation_share)
        loader = self._loader(shards, masker, settings.seed)
        return [loader.load(spans, number) for number, spans in enumerate(packs)]

    def _all_sources(self) -> set[tuple[TextSource, ...]]:
        settings = self._settings
        return {settings.data, settings.held_back, *(phase.data for phase in settings.phases if phase.data)}

    def _prepare(self, sources: Sequence[TextSource]) -> list[Shards]:
        root = self._settings.data_root
        return prepare_shards(
            sources, self.tokenizer, root=root, folder=self._folder, on_progress=self._on_progress
        )

    def _loader(self, shards: Sequence[Shards], masker: Masker, seed: int) -> Loader:
        cls_id, sep_id = self.tokenizer.cls_token_id, self.tokenizer.sep_token_id
        assert isinstance(cls_id, int) and isinstance(sep_id, int)
        return Loader(shards, masker, cls_id=cls_id, sep_id=sep_id, seed=seed)
