"""The implementations in ``flatcoat bench encode``: ours, transformers, sentence-transformers, and a bound.

All have the same random weights, in one copy per precision where the libraries allow it.
"""

import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from flatcoat.backbone.config import ModernBertConfig
from flatcoat.backbone.environment import DTYPES
from flatcoat.backbone.model import ModernBert
from flatcoat.backbone.packing import budget_batches
from flatcoat.backbone.weights import init_empty_weights, published

from . import OURS
from .encode_batches import (
    TOKEN_BUDGET,
    TRAINING_BUDGET,
    Documents,
    Encode,
    Forward,
    in_batches,
    matrix_products,
    packed_forward,
    padded_batches,
    padded_forward,
)

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

REFERENCE = "transformers sdpa"
DEFAULT = "sentence-transformers encode"
BOUND = "matrix products alone"
_ENDLESS = 1 << 20


@dataclass(frozen=True)
class Implementation:
    """One way to encode in one precision; ``forward`` is None where no whole batch can be passed."""

    name: str
    precision: str
    encode: Encode
    forward: Forward | None = None
    task: str = "inference"


def random_encoder(config: ModernBertConfig, device: str) -> ModernBert:
    """The encoder whose weights every implementation shares: float32, the same in every run."""
    torch.manual_seed(0)
    return ModernBert(config).eval().to(device)


def why_no_peer(config: ModernBertConfig) -> str:
    """Why no other library is there to compare with; empty where transformers has the model."""
    if config.published is None or not config.published.custom_code:
        return ""
    return f"transformers has no {config.family}, whose code comes with its checkpoints and is not run"


def reference_encode(source: ModernBert, device: str) -> Encode:
    """transformers in float32, the reference of every other; ours where it has no such model."""
    if why_no_peer(source.config):
        return _batched(source, torch.inference_mode()(_forward(source, device)), TOKEN_BUDGET[device])
    attention = _attentions(source.config)[0]
    model = _transformers(source.config, source.state_dict(), attention, device)
    return _batched(model, torch.inference_mode()(_forward(model, device)), TOKEN_BUDGET[device])


def inference(source: ModernBert, precisions: Sequence[str], *, device: str) -> list[Implementation]:
    """All implementations on this device, ours first in each precision; fp32 and bf16 end with a bound."""
    implementations: list[Implementation] = []
    for precision in precisions:
        for name, model in _models(source, precision, device):
            forward = torch.inference_mode()(_forward(model, device))
            encode = _batched(model, forward, TOKEN_BUDGET[device])
            implementations.append(Implementation(name, precision, encode, forward))
        if precision == "fp32" and not why_no_peer(source.config):
            implementations.append(Implementation(DEFAULT, precision, default_encode(source, device)))
        if precision in DTYPES:
            bound = matrix_products(source.config, DTYPES[precision], device=device)
            implementations.append(Implementation(BOUND, precision, bound))
    return implementations


def training(source: ModernBert, precisions: Sequence[str], *, device: str) -> list[Implementation]:
    """Training steps of ours and transformers. On CUDA bf16 means float32 weights under autocast."""
    implementations: list[Implementation] = []
    for precision in precisions:
        autocast = device == "cuda" and precision == "bf16"
        for name, model in _models(source, "fp32" if autocast else precision, device):
            if name in (OURS, REFERENCE):
                step = _training_step(model.train(), device, autocast)
                encode = _batched(model, step, TRAINING_BUDGET[device])
                implementations.append(Implementation(name, precision, encode, task="training"))
    return implementations


def _models(source: ModernBert, precision: str, device: str) -> Iterator[tuple[str, nn.Module]]:
    config = source.config
    alone = bool(why_no_peer(config))
    if precision == "int8":
        from flatcoat.backbone.quantization import quantize

        yield OURS, quantize(source)
        if not alone and find_spec("torch.ao.quantization"):
            attention = _attentions(config)[0]
            model = _transformers(config, source.state_dict(), attention, device)
            yield f"transformers {attention} dynamic", _dynamically_quantized(model)
        return
    dtype = DTYPES[precision]
    state = {name: tensor.to(dtype) for name, tensor in source.state_dict().items()}
    with init_empty_weights():
        ours = ModernBert(config)
    ours.load_state_dict(state, assign=True)
    yield OURS, ours.eval()
    flash = device == "cuda" and precision == "bf16" and find_spec("flash_attn")
    attentions = () if alone else (*_attentions(config), *(("flash_attention_2",) if flash else ()))
    for attention in attentions:
        yield f"transformers {attention}", _transformers(config, state, attention, device)


def _transformers(config: ModernBertConfig, state: dict[str, Tensor], attention: str, device: str) -> Any:
    import transformers

    settings = _settings(config)
    dtype = state["embeddings.tok_embeddings.weight"].dtype
    model = transformers.AutoModel.from_config(settings, attn_implementation=attention, dtype=dtype)
    unused = model.load_state_dict(published(state, config), assign=True, strict=False)
    assert all("pooler" in name for name in unused.missing_keys) and not unused.unexpected_keys
    return model.eval().to(device)


def _settings(config: ModernBertConfig) -> Any:
    import transformers

    values = config.to_hf()
    return transformers.AutoConfig.for_model(values.pop("model_type"), **values)


def _attentions(config: ModernBertConfig) -> Sequence[str]:
    """The kinds of attention that transformers has for a model, its default first."""
    import transformers

    model_class: Any = transformers.MODEL_MAPPING[type(_settings(config))]
    return ("sdpa", "eager") if model_class._supports_sdpa else ("eager",)


def _dynamically_quantized(model: nn.Module) -> nn.Module:
    """PyTorch's dynamic int8: weights quantised now, inputs on the way."""
    with warnings.catch_warnings():
        # Deprecated in favour of torchao, but the int8 of plain PyTorch.
        warnings.simplefilter("ignore", DeprecationWarning)
        return torch.ao.quantization.quantize_dynamic(model, {nn.Linear}, dtype=torch.qint8, inplace=True)


def _forward(model: nn.Module, device: str) -> Forward:
    if isinstance(model, ModernBert):
        return packed_forward(model, device)
    return padded_forward(model, device)


def _batched(model: nn.Module, forward: Forward, max_tokens: int) -> Encode:
    batches = budget_batches if isinstance(model, ModernBert) else padded_batches
    return in_batches(forward, partial(batches, max_tokens=max_tokens))


def _training_step(model: nn.Module, device: str, autocast: bool) -> Forward:
    forward = _forward(model, device)

    def step(texts: Documents) -> Tensor:
        with torch.autocast(device, torch.bfloat16, enabled=autocast):
            vectors_ND = forward(texts)
        # Squared: the plain sum of layer-normed states is constant, its gradients are rounding noise.
        vectors_ND.square().sum().backward()
        model.zero_grad(set_to_none=True)
        return vectors_ND.detach()

    return step


def default_encode(source: ModernBert, device: str) -> Encode:
    """``SentenceTransformer.encode`` as users call it: float32, 32 texts padded to the longest.

    It takes text, so each id is written as a decimal number; tokenising is part of the time, as for users.
    """
    model = sentence_transformer(source, device)
    words = [str(token) for token in range(source.config.vocab_size)]

    def encode(texts: Documents) -> Tensor:
        return torch.from_numpy(model.encode([" ".join(words[token] for token in text) for text in texts]))

    return encode


def sentence_transformer(source: ModernBert, device: str) -> "SentenceTransformer":
    """A SentenceTransformer with these weights and mean pooling, whose words are decimal token ids.

    It adds no special tokens and does not truncate, so that the written ids come back exactly.
    """
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import Pooling, Transformer
    from tokenizers import AddedToken, Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import WhitespaceSplit
    from transformers import PreTrainedTokenizerFast

    config = source.config
    numbers = Tokenizer(WordLevel({str(token): token for token in range(config.vocab_size)}, unk_token="0"))
    numbers.pre_tokenizer = WhitespaceSplit()  # type: ignore[assignment]
    # A special token is cut out of the text first: single_word keeps pad 7 from being found in 17.
    pad = AddedToken(str(config.pad_token_id), single_word=True, special=True)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=numbers, pad_token=pad, model_max_length=_ENDLESS)
    with tempfile.TemporaryDirectory() as folder, _no_progress_bars():
        source.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        transformer = Transformer(folder, max_seq_length=_ENDLESS)
    return SentenceTransformer(modules=[transformer, Pooling(config.hidden_size, "mean")], device=device)


@contextmanager
def _no_progress_bars() -> Iterator[None]:
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
