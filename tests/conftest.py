"""Small random checkpoints that every folder's tests share: made once a session, no network, no training."""

import os
import tempfile
from collections import Counter
from collections.abc import Callable
from importlib.util import find_spec
from itertools import chain, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

# Read when huggingface_hub is imported: an unknown name fails at once, here and in child processes.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
os.environ["XDG_STATE_HOME"] = tempfile.mkdtemp(prefix="flatcoat-state-")

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from tokenizers.models import BPE
    from transformers import PreTrainedTokenizerFast

    from flatcoat.backbone.config import ModernBertConfig

MakeFolder = Callable[..., Path]

SENTENCES = [
    "The sky is blue because air scatters short waves of light.",
    "def parse_http_response(raw): return HttpResponse(raw.split('\\r\\n'))",
    "class HttpResponse: pass  # parseHttpResponse, parse_http_response, Parse HTTP response",
    "Dogs bark at strangers, retrieve birds and swim in cold rivers.",
    "A bridge of steel, 1280 metres long, crosses the river since 1937!",
    "How does a cat purr? Cats purr when they are content.",
    "for index, value in enumerate(values): total += value * 0.5",
    "Bread rises as yeast turns sugar into carbon dioxide; the crust browns at 160 degrees.",
    "La forêt est calme, über den Wolken, ὁ οὐρανός, 東京 123.",
    "Retrieval finds passages; late interaction keeps one vector for every token.",
]


@pytest.fixture(scope="session")
def texts() -> list[str]:
    """Texts to encode: empty, punctuation, a word, blanks around, prose, code, more than a model reads."""
    return ["", "!?.,", "cat", " \n blanks around \t", *SENTENCES, " ".join(SENTENCES * 3), "a. b, c! " * 30]


@pytest.fixture(scope="session")
def tokenizer() -> "PreTrainedTokenizerFast":
    from flatcoat.backbone.tokenizer import train_tokenizer

    trained = train_tokenizer(SENTENCES, vocab_size=320, min_frequency=1)
    backend = trained.backend_tokenizer
    backend.model = _byte_pairs(backend, size=320)
    return trained


def _byte_pairs(tokenizer: "Tokenizer", *, size: int) -> "BPE":
    """What a trainer learns from SENTENCES, but for ties, which it breaks by chance, otherwise every time."""
    from tokenizers.models import BPE

    from flatcoat.backbone.tokenizer import CONTINUATION, SPECIAL_TOKENS

    normal = map(tokenizer.normalizer.normalize_str, SENTENCES)
    words = Counter(word for text in normal for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(text))
    parts = {word: [word[0], *(CONTINUATION + letter for letter in word[1:])] for word in words}
    vocabulary = [*SPECIAL_TOKENS, *sorted(set(chain.from_iterable(parts.values())))]
    merges: list[tuple[str, str]] = []
    while len(vocabulary) < size:
        pairs = Counter[tuple[str, str]]()
        for word, count in words.items():
            pairs.update(dict.fromkeys(pairwise(parts[word]), count))
        first, second = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append((first, second))
        joined = first + second.removeprefix(CONTINUATION)
        vocabulary += [joined] if joined not in vocabulary else []
        for word, split in parts.items():
            while (first, second) in (pairs_of := list(pairwise(split))):
                place = pairs_of.index((first, second))
                parts[word] = split = [*split[:place], joined, *split[place + 2 :]]
    ids = {token: number for number, token in enumerate(vocabulary)}
    return BPE(ids, merges, unk_token="[UNK]", continuing_subword_prefix=CONTINUATION)


@pytest.fixture(scope="session")
def config(tokenizer: "PreTrainedTokenizerFast") -> "ModernBertConfig":
    """Global, local, local, global; windows of 8 tokens on each side, so that short texts outgrow them."""
    from flatcoat.backbone.config import ModernBertConfig

    ids = {name: tokenizer.convert_tokens_to_ids(f"[{name.upper()}]") for name in ("pad", "cls", "sep")}
    return ModernBertConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=4,
        num_attention_heads=2,
        max_position_embeddings=1024,
        local_attention=16,
        initializer_range=0.1,
        pad_token_id=ids["pad"],
        bos_token_id=ids["cls"],
        cls_token_id=ids["cls"],
        eos_token_id=ids["sep"],
        sep_token_id=ids["sep"],
    )


@pytest.fixture(scope="session")
def modernbert_folder(
    tmp_path_factory: pytest.TempPathFactory, tokenizer: "PreTrainedTokenizerFast", config: "ModernBertConfig"
) -> Path:
    """A ModernBERT encoder with its tokenizer."""
    import torch

    from flatcoat.backbone.model import ModernBert

    folder = tmp_path_factory.mktemp("checkpoints") / "modernbert"
    torch.manual_seed(1)
    ModernBert(config).save_pretrained(folder)
    tokenizer.save_pretrained(str(folder))
    return folder


@pytest.fixture(scope="session")
def bert_folder(tmp_path_factory: pytest.TempPathFactory, tokenizer: "PreTrainedTokenizerFast") -> Path:
    """A BERT encoder with its tokenizer."""
    import torch
    from transformers import BertConfig, BertModel

    folder = tmp_path_factory.mktemp("checkpoints") / "bert"
    torch.manual_seed(2)
    model = BertModel(
        BertConfig(
            vocab_size=len(tokenizer),
            hidden_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=96,
            initializer_range=0.1,
        )
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(str(folder))
    return folder


@pytest.fixture(scope="session")
def foreign_folder(tmp_path_factory: pytest.TempPathFactory, tokenizer: "PreTrainedTokenizerFast") -> Path:
    """A DeBERTa encoder, which flatcoat runs through transformers."""
    import torch
    from transformers import DebertaV2Config, DebertaV2Model

    folder = tmp_path_factory.mktemp("checkpoints") / "deberta"
    torch.manual_seed(2)
    settings = DebertaV2Config(
        vocab_size=len(tokenizer),
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=96,
        initializer_range=0.1,
    )
    DebertaV2Model(settings).save_pretrained(folder)
    tokenizer.save_pretrained(str(folder))
    return folder


@pytest.fixture(scope="session")
def bases(modernbert_folder: Path, bert_folder: Path) -> dict[str, Path]:
    """Encoders with their tokenizers that flatcoat reads and computes itself, by name."""
    return {"modernbert": modernbert_folder, "bert": bert_folder}


@pytest.fixture(scope="session")
def make_colbert(tmp_path_factory: pytest.TempPathFactory, modernbert_folder: Path) -> MakeFolder:
    """A ColBERT checkpoint saved by plain PyLate, where it is installed; options are its settings."""
    made: dict[str, Path] = {}

    def make(base: Path = modernbert_folder, **options: Any) -> Path:
        key = repr((base, sorted(options.items())))
        if key not in made:
            import torch

            folder = tmp_path_factory.mktemp("colbert") / "model"
            torch.manual_seed(3)
            settings = {"document_length": 120} | options
            if find_spec("pylate"):
                from pylate.models import ColBERT

                theirs = ColBERT(str(base), device="cpu", embedding_size=32, **settings)
                # PyLate draws the rows of its prefixes by an eigendecomposition: others on each processor.
                torch.nn.init.normal_(theirs[0].auto_model.get_input_embeddings().weight[-2:], std=0.1)
                theirs.save(str(folder), create_model_card=False)
            else:
                from flatcoat.retrieval.encoders.colbert_model import ColbertModel

                ColbertModel(base, width=32, settings=settings, device="cpu").save(str(folder))
            made[key] = folder
        return made[key]

    return make


@pytest.fixture(scope="session")
def make_dense(tmp_path_factory: pytest.TempPathFactory, modernbert_folder: Path) -> MakeFolder:
    """A DPR checkpoint saved by plain sentence-transformers; options go to ``SentenceTransformer``."""
    made: dict[str, Path] = {}

    def make(
        base: Path = modernbert_folder, pooling: str = "mean", project: bool = False, **options: Any
    ) -> Path:
        key = repr((base, pooling, project, sorted(options.items())))
        if key not in made:
            import torch
            from sentence_transformers import SentenceTransformer
            from sentence_transformers.models import Dense, Pooling, Transformer

            folder = tmp_path_factory.mktemp("dense") / "model"
            torch.manual_seed(4)
            modules: list[torch.nn.Module] = [
                Transformer(str(base), max_seq_length=120),
                Pooling(64, pooling_mode=pooling),
            ]
            if project:
                modules.append(Dense(64, 24))
            SentenceTransformer(modules=modules, device="cpu", **options).save(
                str(folder), create_model_card=False
            )
            made[key] = folder
        return made[key]

    return make
