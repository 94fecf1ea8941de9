"""all-MiniLM-L6-v2 and the BERT family in NumPy: the same numbers as PyTorch, from code that a person can read.

Start reading at `minilm.functional`, then `minilm.bert`, then `minilm.heads`: that is the whole model.
"""

from __future__ import annotations

from typing import Any

__version__ = "0.1.0"

# Public names and where they live. They are imported when first asked for, so that ``import minilm`` stays quick.
_HOMES = {
    "AlbertForMaskedLM": "models",
    "AlbertForSequenceClassification": "models",
    "AlbertForTokenClassification": "models",
    "AlbertModel": "models",
    "AutoConfig": "models",
    "AutoModel": "models",
    "AutoModelForMaskedLM": "models",
    "AutoModelForNextSentencePrediction": "models",
    "AutoModelForSequenceClassification": "models",
    "AutoModelForTokenClassification": "models",
    "AutoTokenizer": "tokenizing.auto",
    "BertConfig": "config",
    "BertForMaskedLM": "models",
    "BertForNextSentencePrediction": "models",
    "BertForSequenceClassification": "models",
    "BertForTokenClassification": "models",
    "BertModel": "models",
    "BertTokenizer": "tokenizing.auto",
    "BertTokenizerFast": "tokenizing.auto",
    "CamembertForMaskedLM": "models",
    "CamembertForSequenceClassification": "models",
    "CamembertForTokenClassification": "models",
    "CamembertModel": "models",
    "CrossEncoder": "sentences.cross_encoder",
    "DistilBertForMaskedLM": "models",
    "DistilBertForSequenceClassification": "models",
    "DistilBertForTokenClassification": "models",
    "DistilBertModel": "models",
    "ElectraForMaskedLM": "models",
    "ElectraForSequenceClassification": "models",
    "ElectraForTokenClassification": "models",
    "ElectraModel": "models",
    "Index": "indexing.index",
    "MPNetForMaskedLM": "models",
    "MPNetForSequenceClassification": "models",
    "MPNetForTokenClassification": "models",
    "MPNetModel": "models",
    "RobertaForMaskedLM": "models",
    "RobertaForSequenceClassification": "models",
    "RobertaForTokenClassification": "models",
    "RobertaModel": "models",
    "SentenceTransformer": "sentences.sentence_transformer",
    "TextClassifier": "sentences.text_classifier",
    "XLMRobertaForMaskedLM": "models",
    "XLMRobertaForSequenceClassification": "models",
    "XLMRobertaForTokenClassification": "models",
    "XLMRobertaModel": "models",
    "as_sentence_transformers": "integrations.standin",
    "available_backends": "backends",
    "community_detection": "vectors.search",
    "cos_sim": "vectors.similarity",
    "evaluate_sts": "inspection.sts",
    "fit": "training.fitting",
    "get_backend": "backends",
    "mean_pooling": "models",
    "normalize": "models",
    "paraphrase_mining": "vectors.search",
    "pipeline": "pipelines",
    "quantize_embeddings": "vectors.quantization",
    "semantic_search": "vectors.search",
    "trace": "inspection.trace",
    "util": "util",
}

__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    home = import_module(f".{_HOMES[name]}", __name__)
    return home if name == _HOMES[name] else getattr(home, name)


def __dir__() -> list[str]:
    return sorted(__all__)
