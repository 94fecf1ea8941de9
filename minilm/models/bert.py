"""`BertModel`: the encoder behind Hugging Face's call and outputs."""

from __future__ import annotations

from typing import Any, ClassVar

from .. import heads, parameters
from ..backends import on_device
from ..config import BertConfig
from ..parameters import Shapes
from .arguments import check_call_arguments
from .outputs import BertModelOutput
from .pretrained import PreTrainedModel


class BertModel(PreTrainedModel):
    """BERT's encoder; see `minilm.models.pretrained.PreTrainedModel` for the parameters.

    Examples
    --------
    >>> import numpy as np
    >>> from minilm import BertConfig, BertModel
    >>> sizes = dict(vocab_size=9, hidden_size=4, num_hidden_layers=1, num_attention_heads=2, intermediate_size=6)
    >>> config = BertConfig(**sizes)
    >>> ones = {name: np.ones(shape, np.float32) for name, shape in BertModel.shapes(config).items()}
    >>> model = BertModel(parameters.unflatten(ones), config)
    >>> output = model(np.array([[2, 5, 3]]))
    >>> output.last_hidden_state.shape, output.pooler_output.shape
    ((1, 3, 4), (1, 4))
    """

    optional: ClassVar[frozenset[str]] = frozenset(parameters.pooler("", 1))

    @classmethod
    def shapes(cls, config: BertConfig) -> Shapes:
        """Every parameter's name and shape; the pooler's may be absent."""
        return parameters.bert(config) | parameters.pooler("", config.hidden_size)

    @classmethod
    def _left_out(cls, settings: dict[str, Any]) -> frozenset[str]:
        """The pooler, if ``add_pooling_layer`` is False; if it is True, a pooler may be missing all the same."""
        return frozenset() if settings.pop("add_pooling_layer", True) else cls.optional

    @on_device
    def __call__(
        self,
        input_ids: Any,
        attention_mask: Any = None,
        token_type_ids: Any = None,
        position_ids: Any = None,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
        return_dict: bool | None = None,
        **others: Any,
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
            Whether the output has those of every layer; None for what the config says, which is mostly no.
        return_dict
            Whether the output has names; if not, it is a tuple. None for what the config says, which is mostly yes.
        **others
            Other arguments of transformers' models, which must be None.

        Raises
        ------
        ValueError
            For an id without a row in its table, shapes that differ, or more tokens than positions; and for an
            argument of transformers that is not implemented, such as ``inputs_embeds``.
        TypeError
            For ids that are not integers, and for an argument that there is not.
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
        pooled = None
        if "pooler" in self.params:
            pooled = self.returned(heads.pooler(self.params["pooler"], states[-1], self.backend.operations), input_ids)
        output = BertModelOutput(
            last_hidden_state=self.returned(states[-1], input_ids),
            pooler_output=pooled,
            hidden_states=self.returned(states, input_ids) if want_states else None,
            attentions=self.returned(attentions, input_ids) if want_attentions else None,
        )
        return self._as_asked(output, return_dict)
