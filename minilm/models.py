"""Hugging Face's models: the same names, calls and outputs around the functions of `minilm.bert` and `minilm.heads`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from . import bert, heads, parameters
from .backends import Backend, on_device
from .batching import Pack
from .config import BertConfig
from .functional import Array, array_namespace, softmax
from .inputs import check_text
from .parameters import Params, Shapes
from .pretrained import ModelOutput, PreTrainedModel

if TYPE_CHECKING:
    from .loading.tokenizer import Tokenizer


@dataclass(frozen=True)
class BertModelOutput(ModelOutput):
    """What `BertModel` returns.

    Attributes
    ----------
    last_hidden_state
        [batch, tokens, hidden].
    pooler_output
        [batch, hidden]; None for a checkpoint without a pooler.
    hidden_states
        After the embeddings and after every layer, each [batch, tokens, hidden]; None unless asked for.
    attentions
        Of every layer, each [batch, heads, queries, keys]; None unless asked for.
    """

    last_hidden_state: Array
    pooler_output: Array | None = None
    hidden_states: tuple[Array, ...] | None = None
    attentions: tuple[Array, ...] | None = None


@dataclass(frozen=True)
class HeadOutput(ModelOutput):
    """What a model with a head returns.

    Attributes
    ----------
    logits
        [batch, labels], [batch, tokens, labels] or [batch, tokens, vocab], as the model says.
    hidden_states, attentions
        As in `BertModelOutput`.
    """

    logits: Array
    hidden_states: tuple[Array, ...] | None = None
    attentions: tuple[Array, ...] | None = None


class BertModel(PreTrainedModel):
    """BERT's encoder; see `minilm.pretrained.PreTrainedModel` for the parameters.

    Examples
    --------
    >>> sizes = dict(vocab_size=9, hidden_size=4, num_hidden_layers=1, num_attention_heads=2, intermediate_size=6)
    >>> config = BertConfig(**sizes)
    >>> ones = {name: np.ones(shape, np.float32) for name, shape in BertModel.shapes(config).items()}
    >>> model = BertModel(parameters.unflatten(ones), config)
    >>> output = model(np.array([[2, 5, 3]]))
    >>> output.last_hidden_state.shape, output.pooler_output.shape
    ((1, 3, 4), (1, 4))
    """

    optional = frozenset(parameters.pooler("", 1))

    @classmethod
    def shapes(cls, config: BertConfig) -> Shapes:
        """Every parameter's name and shape; the pooler's may be absent."""
        return parameters.bert(config) | parameters.pooler("", config.hidden_size)

    @on_device
    def __call__(
        self,
        input_ids: Any,
        attention_mask: Any = None,
        token_type_ids: Any = None,
        position_ids: Any = None,
        output_hidden_states: bool = False,
        output_attentions: bool = False,
    ) -> BertModelOutput:
        """Run the network on a padded batch.

        Parameters
        ----------
        input_ids
            Integers [batch, tokens].
        attention_mask
            [batch, tokens], 1 where a token counts and 0 where it is padding; None for all ones.
        token_type_ids
            Integers [batch, tokens], 0 in the first text and 1 in the second; None for all zeros.
        position_ids
            Integers [batch, tokens]; None for 0, 1, 2, …
        output_hidden_states, output_attentions
            Whether the output has those of every layer.

        Raises
        ------
        ValueError
            For an id without a row in its table, shapes that differ, or more tokens than positions.
        TypeError
            For ids that are not integers.
        """
        states, attentions = self.run_padded(
            input_ids,
            attention_mask,
            token_type_ids,
            position_ids,
            output_hidden_states=output_hidden_states,
            output_attentions=output_attentions,
        )
        pooled = None
        if "pooler" in self.params:
            pooled = self.returned(bert.pooler(self.params["pooler"], states[-1], self.backend.operations), input_ids)
        return BertModelOutput(
            last_hidden_state=self.returned(states[-1], input_ids),
            pooler_output=pooled,
            hidden_states=self.returned(states, input_ids) if output_hidden_states else None,
            attentions=self.returned(attentions, input_ids) if output_attentions else None,
        )

    @on_device
    def forward_packed(self, pack: Pack) -> Array:
        """Run the network on a pack: the last hidden states [total_tokens, hidden], on the backend."""
        return self.run_packed(pack)


class _ModelWithHead(PreTrainedModel):
    """An encoder under ``bert`` and a head beside it, which turns the last hidden states into logits."""

    def head(self, hidden_states: Array) -> Array:
        """Turn hidden states [batch, tokens, hidden] into logits."""
        raise NotImplementedError

    @on_device
    def __call__(
        self,
        input_ids: Any,
        *,
        attention_mask: Any = None,
        token_type_ids: Any = None,
        position_ids: Any = None,
        output_hidden_states: bool = False,
        output_attentions: bool = False,
    ) -> HeadOutput:
        """Run the network on a padded batch: parameters and errors as in `BertModel`, but by keyword.

        A mask and token types look alike, zeros and ones of one shape: by keyword they can't be swapped unnoticed.
        """
        states, attentions = self.run_padded(
            input_ids,
            attention_mask,
            token_type_ids,
            position_ids,
            output_hidden_states=output_hidden_states,
            output_attentions=output_attentions,
        )
        return HeadOutput(
            logits=self.returned(self.head(states[-1]), input_ids),
            hidden_states=self.returned(states, input_ids) if output_hidden_states else None,
            attentions=self.returned(attentions, input_ids) if output_attentions else None,
        )


class BertForMaskedLM(_ModelWithHead):
    """BERT with its first task's head: which word was masked? Logits [batch, tokens, vocab].

    Parameters
    ----------
    params, config, backend
        As for `minilm.pretrained.PreTrainedModel`.
    tokenizer
        For `fill_mask`; a model from `from_pretrained` finds its own.
    """

    optional = frozenset({"cls.predictions.bias", "cls.predictions.decoder.weight", "cls.predictions.decoder.bias"})

    def __init__(
        self,
        params: Params,
        config: BertConfig,
        backend: str | Backend | None = None,
        tokenizer: Tokenizer | None = None,
    ) -> None:
        super().__init__(params, config, backend)
        predictions = self.params["cls"]["predictions"]
        if "bias" not in {**predictions, **predictions.get("decoder", {})}:
            raise ValueError(
                "both cls.predictions.bias and cls.predictions.decoder.bias are missing: one must be there"
            )
        if not config.tie_word_embeddings and "weight" not in predictions.get("decoder", {}):
            raise ValueError(
                "cls.predictions.decoder.weight is missing, but tie_word_embeddings is false in the config"
            )
        self._tokenizer = tokenizer

    @classmethod
    def shapes(cls, config: BertConfig) -> Shapes:
        """Every parameter's name and shape; the decoder's weight and one of the two biases may be absent."""
        return parameters.bert(config, "bert.") | parameters.masked_lm(config)

    def head(self, hidden_states: Array) -> Array:
        """[..., hidden] → [..., vocab]."""
        words = self.encoder_params["embeddings"]["word_embeddings"]["weight"]
        return heads.masked_lm(
            self.params["cls"]["predictions"], hidden_states, words, self.config, self.backend.operations
        )

    @property
    def tokenizer(self) -> Tokenizer:
        """The checkpoint's tokenizer, loaded when it is first asked for."""
        if self._tokenizer is None:
            if self._source is None:
                raise ValueError("a model made from arrays has no tokenizer of its own: pass one to the constructor")
            from .loading.tokenizer import AutoTokenizer

            name, settings = self._source
            names = ("revision", "token", "cache_dir", "local_files_only")
            self._tokenizer = AutoTokenizer.from_pretrained(name, **{key: settings[key] for key in names})
        return self._tokenizer

    @on_device
    def fill_mask(self, text: str, top_k: int = 5) -> list[Any]:
        """Say what may stand for each ``[MASK]`` of a text, as Hugging Face's fill-mask pipeline does.

        The product with the vocabulary, most of the work for a short text, is done at the masks alone.

        Parameters
        ----------
        text
            A text with one or several masks.
        top_k
            How many candidates, the most probable first.

        Returns
        -------
        candidates
            For one mask a list of ``{"score", "token", "token_str", "sequence"}``: the probability, the id, the word,
            and the text with it. For several a list of such lists, one per mask, with the other masks left in place.

        Raises
        ------
        TypeError
            If the text is not a string.
        ValueError
            If the text has no mask or too many tokens, or ``top_k`` is not between 1 and the size of the vocabulary.
        """
        check_text(text, "text")
        tokenizer = self.tokenizer
        if not 1 <= top_k <= self.config.vocab_size:
            raise ValueError(f"top_k must be between 1 and {self.config.vocab_size}, the vocabulary, got {top_k}")
        encoded = tokenizer(text, return_tensors="np")
        ids = encoded["input_ids"][0]
        masks = np.flatnonzero(ids == tokenizer.mask_token_id)
        if len(masks) == 0:
            raise ValueError(
                f"no {tokenizer.mask_token} in the text {text!r:.60}: write it where a word is to be found"
            )
        states, _ = self.run_padded(**encoded)
        xp = array_namespace(states[-1])
        masked = xp.take(states[-1][0, :, :], self.backend.from_numpy(masks), axis=0)  # [masks, hidden]
        scores = softmax(self.backend.to_numpy(self.head(masked)))
        found = []
        for place, row in zip(masks, scores, strict=True):
            candidates = []
            for token in np.argsort(-row, kind="stable")[:top_k].tolist():
                filled = np.where(np.arange(len(ids)) == place, token, ids)
                filled = filled[filled != tokenizer.pad_token_id]
                candidates.append(
                    {
                        "score": float(row[token]),
                        "token": token,
                        "token_str": tokenizer.decode([token]),
                        "sequence": tokenizer.decode(filled, skip_special_tokens=len(masks) == 1),
                    }
                )
            found.append(candidates)
        return found[0] if len(masks) == 1 else found


class BertForSequenceClassification(_ModelWithHead):
    """BERT with a classifier of texts, or pairs of texts, on its pooler: logits [batch, labels].

    The labels are `BertConfig.labels`.
    """

    @classmethod
    def shapes(cls, config: BertConfig) -> Shapes:
        """Every parameter's name and shape."""
        hidden, labels = config.hidden_size, len(config.labels)
        encoder = parameters.bert(config, "bert.") | parameters.pooler("bert.", hidden)
        return encoder | parameters.dense("classifier", hidden, labels)

    def head(self, hidden_states: Array) -> Array:
        """[batch, tokens, hidden] → [batch, labels]."""
        ops = self.backend.operations
        return heads.classifier(
            self.params["classifier"], bert.pooler(self.params["bert"]["pooler"], hidden_states, ops), ops
        )

    @on_device
    def forward_packed(self, pack: Pack) -> Array:
        """Run the network on a pack: logits [texts, labels], on the backend."""
        states = self.run_packed(pack)
        firsts = self.backend.from_numpy(np.flatnonzero(pack.position_ids == 0))
        return self.head(array_namespace(states).take(states, firsts, axis=0)[:, None, :])

    def probabilities(self, logits: Array) -> Array:
        """Logits as probabilities by what the config says of the problem; a regression's numbers stay as they are."""
        return heads.probabilities(logits, self.config.problem_type)


class BertForTokenClassification(_ModelWithHead):
    """BERT with a classifier of tokens: logits [batch, tokens, labels]. The labels are `BertConfig.labels`."""

    @classmethod
    def shapes(cls, config: BertConfig) -> Shapes:
        """Every parameter's name and shape."""
        classifier = parameters.dense("classifier", config.hidden_size, len(config.labels))
        return parameters.bert(config, "bert.") | classifier

    def head(self, hidden_states: Array) -> Array:
        """[..., hidden] → [..., labels]."""
        return heads.classifier(self.params["classifier"], hidden_states, self.backend.operations)


class BertForNextSentencePrediction(_ModelWithHead):
    """BERT with its second task's head: logits [batch, 2], first that text B follows text A, then that it is random."""

    @classmethod
    def shapes(cls, config: BertConfig) -> Shapes:
        """Every parameter's name and shape."""
        encoder = parameters.bert(config, "bert.") | parameters.pooler("bert.", config.hidden_size)
        return encoder | parameters.dense("cls.seq_relationship", config.hidden_size, 2)

    def head(self, hidden_states: Array) -> Array:
        """[batch, tokens, hidden] → [batch, 2]."""
        ops = self.backend.operations
        pooled = bert.pooler(self.params["bert"]["pooler"], hidden_states, ops)
        return heads.classifier(self.params["cls"]["seq_relationship"], pooled, ops)


# Hugging Face's names for "whichever architecture the checkpoint has": BERT's is the one that is implemented.
AutoModel = BertModel
AutoModelForMaskedLM = BertForMaskedLM
AutoModelForSequenceClassification = BertForSequenceClassification
AutoModelForTokenClassification = BertForTokenClassification
AutoModelForNextSentencePrediction = BertForNextSentencePrediction

ARCHITECTURES: dict[str, type[PreTrainedModel]] = {
    "BertModel": BertModel,
    "BertForMaskedLM": BertForMaskedLM,
    "BertForPreTraining": BertForMaskedLM,  # has both heads of the pre-training; the next-sentence one is left aside
    "BertForSequenceClassification": BertForSequenceClassification,
    "BertForTokenClassification": BertForTokenClassification,
    "BertForNextSentencePrediction": BertForNextSentencePrediction,
}


class AutoModelForArchitecture:
    """Picks the model by what the checkpoint's config names in ``architectures``."""

    @staticmethod
    def from_pretrained(name_or_path: str | Path, **settings: Any) -> Any:
        """Load a checkpoint as the model that it was saved from; settings as `PreTrainedModel.from_pretrained`."""
        from .loading.hub import find_files

        names = ("revision", "token", "cache_dir", "local_files_only")
        files = find_files(name_or_path, **{name: settings[name] for name in names if name in settings})
        architectures = BertConfig.from_json(files["config.json"]).architectures
        for name in architectures:
            if name in ARCHITECTURES:
                return ARCHITECTURES[name].from_pretrained(name_or_path, **settings)
        raise ValueError(
            f"{files['config.json']}: architectures is {list(architectures)}; implemented: {', '.join(ARCHITECTURES)}"
        )
