"""Hugging Face's models: their names, calls and outputs, around the functions of `minilm.bert` and `minilm.heads`."""

from __future__ import annotations

from .auto import AutoConfig
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
    "AlbertForMaskedLM",
    "AlbertForSequenceClassification",
    "AlbertForTokenClassification",
    "AlbertModel",
    "AutoConfig",
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
    "CamembertForMaskedLM",
    "CamembertForSequenceClassification",
    "CamembertForTokenClassification",
    "CamembertModel",
    "DistilBertForMaskedLM",
    "DistilBertForSequenceClassification",
    "DistilBertForTokenClassification",
    "DistilBertModel",
    "ElectraForMaskedLM",
    "ElectraForSequenceClassification",
    "ElectraForTokenClassification",
    "ElectraModel",
    "HeadOutput",
    "MPNetForMaskedLM",
    "MPNetForSequenceClassification",
    "MPNetForTokenClassification",
    "MPNetModel",
    "ModelOutput",
    "PreTrainedModel",
    "RobertaForMaskedLM",
    "RobertaForSequenceClassification",
    "RobertaForTokenClassification",
    "RobertaModel",
    "XLMRobertaForMaskedLM",
    "XLMRobertaForSequenceClassification",
    "XLMRobertaForTokenClassification",
    "XLMRobertaModel",
    "mean_pooling",
    "normalize",
]

# Hugging Face's names. All families run on one network, so a class loads whichever family the checkpoint is of.
AutoModel = BertModel
AutoModelForMaskedLM = BertForMaskedLM
AutoModelForSequenceClassification = BertForSequenceClassification
AutoModelForTokenClassification = BertForTokenClassification
AutoModelForNextSentencePrediction = BertForNextSentencePrediction

RobertaModel = BertModel
RobertaForMaskedLM = BertForMaskedLM
RobertaForSequenceClassification = BertForSequenceClassification
RobertaForTokenClassification = BertForTokenClassification

XLMRobertaModel = BertModel
XLMRobertaForMaskedLM = BertForMaskedLM
XLMRobertaForSequenceClassification = BertForSequenceClassification
XLMRobertaForTokenClassification = BertForTokenClassification

CamembertModel = BertModel
CamembertForMaskedLM = BertForMaskedLM
CamembertForSequenceClassification = BertForSequenceClassification
CamembertForTokenClassification = BertForTokenClassification

DistilBertModel = BertModel
DistilBertForMaskedLM = BertForMaskedLM
DistilBertForSequenceClassification = BertForSequenceClassification
DistilBertForTokenClassification = BertForTokenClassification

ElectraModel = BertModel
ElectraForMaskedLM = BertForMaskedLM
ElectraForSequenceClassification = BertForSequenceClassification
ElectraForTokenClassification = BertForTokenClassification

AlbertModel = BertModel
AlbertForMaskedLM = BertForMaskedLM
AlbertForSequenceClassification = BertForSequenceClassification
AlbertForTokenClassification = BertForTokenClassification

MPNetModel = BertModel
MPNetForMaskedLM = BertForMaskedLM
MPNetForSequenceClassification = BertForSequenceClassification
MPNetForTokenClassification = BertForTokenClassification
