"""The tokenizer classes of ``transformers``: what each one adds to the words of its files.

A checkpoint names a class in ``tokenizer_config.json``, or else ``config.json`` implies one. The class says which
special tokens there are unless the files name others, which inputs the model takes, and by which rules a vocabulary
becomes a tokenizer where there is no ``tokenizer.json``. Sources: ``tokenization_*.py`` of transformers 5.23.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

NAMED_TOKENS = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")

_BERT = {
    "unk_token": "[UNK]",
    "sep_token": "[SEP]",
    "pad_token": "[PAD]",
    "cls_token": "[CLS]",
    "mask_token": "[MASK]",
}
_ROBERTA = {
    "bos_token": "<s>",
    "eos_token": "</s>",
    "unk_token": "<unk>",
    "sep_token": "</s>",
    "pad_token": "<pad>",
    "cls_token": "<s>",
    "mask_token": "<mask>",
}
_ALBERT = _BERT | {"bos_token": "[CLS]", "eos_token": "[SEP]", "unk_token": "<unk>", "pad_token": "<pad>"}

_WITH_TYPES = ("input_ids", "token_type_ids", "attention_mask")
_WITHOUT_TYPES = ("input_ids", "attention_mask")


@dataclass(frozen=True)
class TokenizerClass:
    """What a tokenizer class says beyond the files.

    Attributes
    ----------
    name
        The class's name without ``Fast``; empty for a tokenizer that is only what its files say.
    model
        The kind of model in ``tokenizer.json``: WordPiece, BPE or Unigram. None: any.
    special_tokens
        The special tokens by their names, unless the files name others.
    extra_special_tokens
        Special tokens without a name.
    model_input_names
        What a call returns by default.
    pair
        What stands between ``[CLS] A [SEP]`` and ``B [SEP]``: ``"bert"`` nothing, and B has token type 1;
        ``"roberta"`` a second ``[SEP]``, and every token type is 0. None: nothing is added.
    mask_takes_space
        Whether the mask token takes the space before it, if the files do not say.
    """

    name: str = ""
    model: str | None = None
    special_tokens: Mapping[str, str] = field(default_factory=dict)
    extra_special_tokens: tuple[str, ...] = ()
    model_input_names: tuple[str, ...] = _WITHOUT_TYPES
    pair: str | None = None
    mask_takes_space: bool = False


BERT = TokenizerClass("BertTokenizer", "WordPiece", _BERT, model_input_names=_WITH_TYPES, pair="bert")

_MPNET = _ROBERTA | {"unk_token": "[UNK]"}
_CAMEMBERT_EXTRA = ("<s>NOTUSED", "</s>NOTUSED", "<unk>NOTUSED")

CLASSES = {
    record.name: record
    for record in (
        BERT,
        TokenizerClass("DistilBertTokenizer", "WordPiece", _BERT, pair="bert"),
        TokenizerClass("MPNetTokenizer", "WordPiece", _MPNET, pair="roberta", mask_takes_space=True),
        TokenizerClass("RobertaTokenizer", "BPE", _ROBERTA, pair="roberta"),
        TokenizerClass("XLMRobertaTokenizer", "Unigram", _ROBERTA, pair="roberta"),
        TokenizerClass(
            "CamembertTokenizer", "Unigram", _ROBERTA, _CAMEMBERT_EXTRA, pair="roberta", mask_takes_space=True
        ),
        TokenizerClass("AlbertTokenizer", "Unigram", _ALBERT, pair="bert"),
    )
}

# Other names of the same classes in transformers.
_SAME = {
    "ElectraTokenizer": "BertTokenizer",
    "ConvBertTokenizer": "BertTokenizer",
    "LayoutLMTokenizer": "BertTokenizer",
    "LxmertTokenizer": "BertTokenizer",
    "MobileBertTokenizer": "BertTokenizer",
    "SqueezeBertTokenizer": "BertTokenizer",
    "LongformerTokenizer": "RobertaTokenizer",
}

# The class of a model whose tokenizer_config.json names none.
_OF_MODEL_TYPE = {
    "albert": "AlbertTokenizer",
    "bert": "BertTokenizer",
    "camembert": "CamembertTokenizer",
    "distilbert": "BertTokenizer",
    "electra": "BertTokenizer",
    "mpnet": "MPNetTokenizer",
    "roberta": "RobertaTokenizer",
    "xlm-roberta": "XLMRobertaTokenizer",
}

# Classes that cut texts in Python, by rules that no tokenizer.json holds.
_IN_PYTHON = {
    "BertJapaneseTokenizer": "it cuts Japanese with MeCab or Sudachi before the vocabulary is looked at",
    "BertweetTokenizer": "it rewrites tweets before the vocabulary is looked at",
    "ByT5Tokenizer": "its tokens are bytes",
    "CanineTokenizer": "its tokens are characters",
    "FlaubertTokenizer": "it cuts text with Moses' rules",
    "PhobertTokenizer": "it has a byte-pair encoding of its own",
    "TapasTokenizer": "it reads tables",
    "XLMTokenizer": "it cuts text with Moses' rules",
}


def find_class(name: str | None, model_type: str | None = None) -> TokenizerClass:
    """Find the class that ``tokenizer_config.json`` names, or that goes with a model of ``model_type``.

    A class that is not known here adds nothing: its ``tokenizer.json`` says everything.

    Raises
    ------
    ValueError
        For a class that cuts texts in Python, by rules that are not implemented.
    """
    if name is None:
        name = _OF_MODEL_TYPE.get(model_type, "") if isinstance(model_type, str) else ""
    if not isinstance(name, str):
        raise ValueError(f"tokenizer_class must be a string, got {name!r}")
    name = name.removesuffix("Fast")
    if name in _IN_PYTHON:
        raise ValueError(
            f"the tokenizer is a {name}, which is not implemented: {_IN_PYTHON[name]}. "
            "BERT's rules would cut its texts into other tokens than the model was trained on. "
            "Tokenize with transformers, and give the model those input_ids"
        )
    return CLASSES.get(_SAME.get(name, name), TokenizerClass(name))
