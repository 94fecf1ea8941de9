"""`PromptedModel`: prompts that go before texts, and where one call cuts: what vectors and scores of pairs share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from .inputs import choose_prompt
from .modules import Transformer
from .processing import text_settings, where_to_cut, with_prompt
from .text_model import TextModel


class PromptedModel(TextModel):
    """A transformer and how it is used, with prompts.

    Parameters
    ----------
    transformer
        The network and its tokenizer.
    prompts, default_prompt_name, threads, truncation, model_card_data
        As in `minilm.SentenceTransformer`.
    """

    settings: ClassVar[tuple[str, ...]] = (*TextModel.settings, "prompts")
    prompts: dict[str, str]

    def __init__(
        self,
        transformer: Transformer,
        *,
        prompts: Mapping[str, str | None],
        default_prompt_name: str | None,
        threads: int | None,
        truncation: str,
        model_card_data: Any = None,
    ) -> None:
        super().__init__(transformer, threads=threads, truncation=truncation, model_card_data=model_card_data)
        self.prompts = {name: text or "" for name, text in prompts.items()}
        self.default_prompt_name = default_prompt_name

    @property
    def default_prompt_name(self) -> str | None:
        """The name of the prompt for calls that name none."""
        return self._default_prompt_name

    @default_prompt_name.setter
    def default_prompt_name(self, value: str | None) -> None:
        choose_prompt(self.prompts, value, None, None)  # raises if there is no prompt of the name
        self._default_prompt_name: str | None = value

    def _choose_prompt(self, prompt_name: str | None, prompt: str | None) -> str:
        return choose_prompt(self.prompts, self.default_prompt_name, prompt_name, prompt)

    def _where_to_cut(self, processing_kwargs: Mapping[str, Any] | None) -> dict[str, Any]:
        """Return the settings of a call that say where its inputs are cut."""
        limit, strategy = where_to_cut(processing_kwargs, self.max_seq_length, self.config.max_tokens)
        return {"max_seq_length": limit, "strategy": strategy}

    def _preprocessed(self, inputs: list[Any], prompt: str | None, processing_kwargs: Mapping[str, Any] | None) -> Any:
        """Return what the tokenizer makes of texts or pairs, as arrays."""
        ours = {"padding": True, "truncation": True, "max_length": self.max_seq_length, "return_tensors": "np"}
        return self.tokenizer(with_prompt(prompt or "", inputs), **{**ours, **text_settings(processing_kwargs)})
