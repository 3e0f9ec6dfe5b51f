"""Makes the checkpoints beside it, tiny and of random weights, with sentence-transformers 6 or later.

    python tests/retrieval/encoders/multi_vector/make.py      (in an environment of constraints-latest.txt)

Each is a folder as ``MultiVectorEncoder.save_pretrained`` writes it, with the vectors that it gave in
vectors.npz: of TEXTS as queries, then as documents.
"""

import json
import string
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from sentence_transformers import MultiVectorEncoder
from sentence_transformers.base.modules import Dense, Normalize, Transformer
from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask
from transformers import BertConfig, BertModel, ModernBertConfig, ModernBertModel, PreTrainedModel

from flatcoat.backbone.tokenizer import train_tokenizer

HERE = Path(__file__).parent
TEXTS = ["", "cats bark", " the sky is blue. Dogs? ", "The sky scatters short waves of light. " * 6]
WORDS = ["The sky is blue: air scatters short waves of light.", "search: Dogs bark, cats purr. document"]


def base(kind: str, folder: Path) -> None:
    """An encoder with its tokenizer."""
    tokenizer = train_tokenizer(WORDS, vocab_size=120, min_frequency=1)
    ids = {name: tokenizer.convert_tokens_to_ids(f"[{name.upper()}]") for name in ("pad", "cls", "sep")}
    sizes = {"vocab_size": len(tokenizer), "hidden_size": 16, "intermediate_size": 24}
    sizes |= {"num_hidden_layers": 2, "num_attention_heads": 2, "max_position_embeddings": 64}
    sizes |= {"initializer_range": 0.3, "pad_token_id": ids["pad"]}
    torch.manual_seed(0)
    model: PreTrainedModel
    if kind == "bert":
        model = BertModel(BertConfig(**sizes))
    else:
        ends = {"bos_token_id": ids["cls"], "cls_token_id": ids["cls"]}
        ends |= {"eos_token_id": ids["sep"], "sep_token_id": ids["sep"]}
        model = ModernBertModel(ModernBertConfig(**sizes, **ends, local_attention=8))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(str(folder))


def write(name: str, model: MultiVectorEncoder) -> None:
    model.save_pretrained(str(HERE / name), create_model_card=False)
    vectors = [
        *model.encode_query(TEXTS, convert_to_numpy=True),
        *model.encode_document(TEXTS, convert_to_numpy=True),
    ]
    np.savez(HERE / name / "vectors.npz", *vectors)


def main() -> None:
    with TemporaryDirectory() as folder:
        for kind in ("modernbert", "bert"):
            base(kind, Path(folder) / kind)
        tokens = {"module_input_name": "token_embeddings"}
        torch.manual_seed(1)
        expanded = Transformer(
            f"{folder}/modernbert", document_length=40, query_expansion={"strategy": "fixed", "length": 16}
        )
        projection = Dense(16, 8, bias=False, activation_function=torch.nn.Identity(), **tokens)
        modules = [expanded, projection, MultiVectorMask(list(string.punctuation)), Normalize(**tokens)]
        prompts = {"query": "search: ", "document": "document: "}
        write("expanded", MultiVectorEncoder(modules=modules, prompts=prompts, device="cpu"))
        plain = Transformer(f"{folder}/bert", query_length=12)
        modules = [plain, Dense(16, 8, **tokens), MultiVectorMask(), Normalize(**tokens)]
        write(
            "meanmaxsim",
            MultiVectorEncoder(modules=modules, similarity_fn_name="meanmaxsim", device="cpu"),
        )
    (HERE / "texts.json").write_text(json.dumps(TEXTS))


if __name__ == "__main__":
    main()
