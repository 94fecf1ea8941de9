"""Hugging Face's models: their names, calls and outputs, around the functions of `minilm.bert` and `minilm.heads`."""

from __future__ import annotations

from .bert import BertModel
from .heads import (
    BertForMaskedLM,
    BertForNextSentencePrediction,
    BertForSequenceClassification,
    BertForTokenClassification,
)
from .outputs import BertModelOutput, HeadOutput, ModelOutput, mean_pooling, normalize
from .pretrained import PreTrainedModel

__all__ = [
    "AutoModel",
    "AutoModelForMaskedLM",
    "AutoModelForNextSentencePrediction",
    "AutoModelForSequenceClassification",
    "AutoModelForTokenClassification",
    "BertForMaskedLM",
    "BertForNextSentencePrediction",
    "BertForSequenceClassification",
    "BertForTokenClassification",
    "BertModel",
    "BertModelOutput",
    "HeadOutput",
    "ModelOutput",
    "PreTrainedModel",
    "mean_pooling",
    "normalize",
]

# Hugging Face's names for "whichever architecture the checkpoint has": BERT's is the one that is implemented.
AutoModel = BertModel
AutoModelForMaskedLM = BertForMaskedLM
AutoModelForSequenceClassification = BertForSequenceClassification
AutoModelForTokenClassification = BertForTokenClassification
AutoModelForNextSentencePrediction = BertForNextSentencePrediction
