"""Models with a head: words for a mask, labels of texts and tokens, whether one sentence follows another."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from .. import heads, parameters
from ..arrays import Array, array_namespace
from ..backends import Backend, on_device
from ..config import BertConfig
from ..functional import softmax
from ..loading.families import FAMILIES, Family
from ..operations import Operations
from ..packing import Pack
from ..parameters import Params, Shapes
from ..tokenizing.texts import check_text
from .arguments import check_call_arguments
from .bert import BertModel
from .outputs import HeadOutput
from .pretrained import PreTrainedModel

if TYPE_CHECKING:
    from typing_extensions import Self

    from ..tokenizing.tokenizer import Tokenizer


logger: logging.Logger = logging.getLogger("minilm")


class _ModelWithHead(PreTrainedModel):
    """An encoder under ``bert`` and a head beside it, which turns the last hidden states into logits."""

    def head(self, hidden_states: Array) -> Array:
        """Turn hidden states [batch, tokens, hidden] into logits."""
        raise NotImplementedError

    @property
    def base_model(self) -> BertModel:
        """The encoder alone; also under the name that the family's classes have for it, ``model.bert`` for example.

        The parameters are shared. It has a pooler only where that is the encoder's own.
        """
        of_head = "pooler.dense" in FAMILIES[self.config.model_type].classifier
        params = {name: tree for name, tree in self.encoder_params.items() if name != "pooler" or not of_head}
        backend = dataclasses.replace(self.backend, place=lambda placed: placed)
        return BertModel(params, self.config, backend)

    if not TYPE_CHECKING:  # type checkers shall miss what is not there

        def __getattr__(self, name: str) -> Any:
            if "config" in vars(self) and name == self.base_model_prefix:
                return self.base_model
            return super().__getattr__(name)

    @on_device
    def __call__(
        self,
        input_ids: Any,
        attention_mask: Any = None,
        *,
        token_type_ids: Any = None,
        position_ids: Any = None,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
        return_dict: bool | None = None,
        **others: Any,
    ) -> HeadOutput:
        """Run the network on a padded batch: parameters and errors as in `BertModel`.

        What follows the mask is given by keyword, since its order differs from family to family in transformers.
        """
        check_call_arguments(others)
        want_states, want_attentions = self._wanted(output_hidden_states, output_attentions)
        states, attentions = self.run_padded(
            input_ids,
            attention_mask,
            token_type_ids,
            position_ids,
            output_hidden_states=want_states,
            output_attentions=want_attentions,
        )
        output = HeadOutput(
            logits=self.returned(self.head(states[-1]), input_ids),
            hidden_states=self.returned(states, input_ids) if want_states else None,
            attentions=self.returned(attentions, input_ids) if want_attentions else None,
        )
        return self._as_asked(output, return_dict)

    @on_device
    def forward_packed(self, pack: Pack) -> Array:
        """Run the model on a pack: logits [total_tokens, labels or vocab], on the backend."""
        return self.head(self.run_packed(pack))


class BertForMaskedLM(_ModelWithHead):
    """BERT with its first task's head: which word was masked? Logits [batch, tokens, vocab].

    Parameters
    ----------
    params, config, backend
        As for `minilm.models.pretrained.PreTrainedModel`.
    tokenizer
        For `fill_mask`; a model from `from_pretrained` finds its own.
    """

    optional: ClassVar[frozenset[str]] = frozenset(
        {"cls.predictions.bias", "cls.predictions.decoder.weight", "cls.predictions.decoder.bias"}
    )

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

    def with_operations(self, operations: Operations) -> Self:
        """See `minilm.models.pretrained.PreTrainedModel.with_operations`."""
        model = super().with_operations(operations)
        model._tokenizer = self._tokenizer
        return model

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
            from ..tokenizing.tokenizer import tokenizer_from_files

            self._tokenizer = tokenizer_from_files(self._source[0])
        return self._tokenizer

    @on_device
    def fill_mask(
        self,
        text: str,
        top_k: int = 5,
        targets: str | Sequence[str] | None = None,
        tokenizer_kwargs: Mapping[str, Any] | None = None,
    ) -> list[Any]:
        """Say what may stand for each ``[MASK]`` of a text, as Hugging Face's fill-mask pipeline does.

        The product with the vocabulary, most of the work for a short text, is done at the masks alone.

        Parameters
        ----------
        text
            A text with one or several masks.
        top_k
            How many candidates, the most probable first.
        targets
            The words that may stand there; None for the whole vocabulary. Of a word that is no token the first token
            counts, and the log says so (logger ``minilm``, level warning).
        tokenizer_kwargs
            Settings of the tokenizer's call, such as ``{"truncation": True}``.

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
            If the text has no mask or too many tokens, ``top_k`` is not between 1 and the size of the vocabulary, or
            there are no targets.
        """
        check_text(text, "text")
        tokenizer = self.tokenizer
        if not 1 <= top_k <= self.config.vocab_size:
            raise ValueError(f"top_k must be between 1 and {self.config.vocab_size}, the vocabulary, got {top_k}")
        allowed = None if targets is None else self._target_ids(targets)
        encoded = tokenizer(text, return_tensors="np", **(tokenizer_kwargs or {}))
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
            order = np.argsort(-row if allowed is None else -row[allowed], kind="stable")[:top_k]
            for token in (order if allowed is None else allowed[order]).tolist():
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

    def _target_ids(self, targets: str | Sequence[str]) -> np.ndarray:
        """Return the ids of the words that may stand for a mask, each once."""
        vocabulary, found = self.tokenizer.get_vocab(), []
        for target in [targets] if isinstance(targets, str) else targets:
            check_text(target, "a target")
            if target not in vocabulary:
                pieces = self.tokenizer.tokenize(target)
                logger.warning("target %r is no token; %s stands in for it", target, pieces[0] if pieces else "nothing")
                if not pieces:
                    continue
                target = pieces[0]
            found.append(vocabulary[target])
        if not found:
            raise ValueError("targets has no word that could stand for a mask")
        return np.unique(found)


class BertForTokenClassification(_ModelWithHead):
    """BERT with a classifier of tokens: logits [batch, tokens, labels]. The labels are `BertConfig.labels`."""

    classifier: ClassVar[str] = "classifier"

    @classmethod
    def shapes(cls, config: BertConfig) -> Shapes:
        """Every parameter's name and shape."""
        classifier = parameters.dense("classifier", config.hidden_size, len(config.labels))
        return parameters.bert(config, "bert.") | classifier

    def head(self, hidden_states: Array) -> Array:
        """[..., hidden] → [..., labels]."""
        return self.backend.operations.linear(hidden_states, **self.params["classifier"])


class _ModelWithPooler(_ModelWithHead):
    """An encoder with its pooler, and a head on that: logits [batch, labels], one row for each text."""

    classifier: ClassVar[str]  # the head's name in BERT's checkpoints

    @classmethod
    def shapes(cls, config: BertConfig) -> Shapes:
        """Every parameter's name and shape."""
        encoder = parameters.bert(config, "bert.") | parameters.pooler("bert.", config.hidden_size)
        return encoder | parameters.dense(cls.classifier, config.hidden_size, cls.count_labels(config))

    @classmethod
    def count_labels(cls, config: BertConfig) -> int:
        """Return how many logits a text gets."""
        return len(config.labels)

    def head(self, hidden_states: Array) -> Array:
        """[batch, tokens, hidden] → [batch, labels]."""
        ops, named = self.backend.operations, dict(parameters.flatten(self.params))
        pooled = heads.pooler(self.params["bert"]["pooler"], hidden_states, ops, self.config.classifier_act)
        return ops.linear(pooled, named[f"{self.classifier}.weight"], named[f"{self.classifier}.bias"])

    @on_device
    def forward_packed(self, pack: Pack) -> Array:
        """Run the model on a pack: logits [texts, labels], on the backend."""
        states = self.run_packed(pack)
        firsts = self.backend.from_numpy(pack.starts)
        return self.head(array_namespace(states).take(states, firsts, axis=0)[:, None, :])


class BertForSequenceClassification(_ModelWithPooler):
    """BERT with a classifier of texts, or pairs of texts, on its pooler: logits [batch, labels].

    The labels are `BertConfig.labels`. Other families have a dense layer of the head's own in the pooler's place, with
    an activation of their own.
    """

    classifier: ClassVar[str] = "classifier"

    @classmethod
    def modules(cls, family: Family) -> Mapping[str, str]:
        """See `minilm.models.module.Module.modules`."""
        return {**family.modules, **family.classifier}

    def probabilities(self, logits: Array) -> Array:
        """Logits as probabilities by what the config says of the problem; a regression's numbers stay as they are."""
        return heads.probabilities(logits, self.config.problem_type)


class BertForNextSentencePrediction(_ModelWithPooler):
    """BERT with its second task's head: logits [batch, 2], first that text B follows text A, then that it is random."""

    classifier: ClassVar[str] = "cls.seq_relationship"

    @classmethod
    def count_labels(cls, config: BertConfig) -> int:
        """Two: it follows, or it is random."""
        return 2
