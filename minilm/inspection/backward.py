"""Parameter by parameter: our gradients, PyTorch's, and those of the same network in float64."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..sentences.sentence_transformer import SentenceTransformer
from ..training.batches import Batches
from ..training.data import Examples
from ..training.gradients import Rows
from ..training.losses import MultipleNegativesRankingLoss
from ..training.tables import TrainingTables
from ..training.tape import Tape
from ..training.trainee import Trainee
from .parity import OURS, TORCH, Parity, compare, model_folder

PAIRS = (  # of different lengths, so that PyTorch's batch is padded
    ("How many people live in Berlin?", "Berlin had a population of 3,520,031 registered inhabitants."),
    ("What do bees make?", "Honey."),
    ("Who wrote Faust?", "The play is by Goethe, who worked on it for most of his life, and finished it in 1831."),
    ("Short.", "A text that is not as short as the other."),
)
_PART = "model/"  # of the names of the trainee's parameters: the network's own


def measure_backward(
    name_or_path: str | os.PathLike[str],
    texts: Sequence[str] = (),
    *,
    backend: str | None = None,
    device: str | None = None,
    **where: Any,
) -> Parity:
    """Compare the gradient of every parameter under `MultipleNegativesRankingLoss`, without dropout.

    Parameters
    ----------
    name_or_path, where
        The model and how it is found, see `minilm.SentenceTransformer`.
    texts
        Pairs, one text after the other: an even number of them, at least four. None: pairs of this module.
    backend, device
        What to measure as ours.

    Returns
    -------
    Parity
        A row for each parameter, the last of the network first, as the backward pass comes by. The bias of keys has
        none: it adds the same number to all scores of a query, which softmax takes out, so that its gradient is 0.

    Raises
    ------
    ValueError
        If the texts do not make at least two pairs.
    """
    if len(texts) % 2 or len(texts) == 2:
        raise ValueError(f"{len(texts)} texts do not make pairs to compare: give four, six, or more")
    pairs = list(zip(texts[::2], texts[1::2], strict=True)) if texts else PAIRS
    examples = Examples(tuple(zip(*pairs, strict=True)))
    settings: dict[str, Any] = {"truncation": "silent", **where}
    arbiter = SentenceTransformer(name_or_path, dtype="float64", backend="numpy", **settings)
    ours = SentenceTransformer(name_or_path, backend=backend, device=device, **settings)
    expected = gradients(arbiter, examples)
    columns = {OURS: gradients(ours, examples)}
    if importlib.util.find_spec("torch") and importlib.util.find_spec("transformers"):
        columns[TORCH] = torch_gradients(arbiter, examples, model_folder(name_or_path, **where))
    shown = {name: x for name, x in reversed(expected.items()) if not name.endswith("key.bias")}
    return compare(shown, columns, np.ones((0, 0)), "parameter")


def gradients(model: SentenceTransformer, examples: Examples) -> dict[str, np.ndarray]:
    """Return the gradient of every parameter of the network that the loss depends on, by its name."""
    trainee = Trainee(model)
    batches = Batches(trainee, MultipleNegativesRankingLoss(), TrainingTables.of(model.backend))
    found = batches(trainee.tokenize(examples), None).gradients
    return {
        name.removeprefix(_PART): _on_host(trainee, gradient)
        for name, gradient in found.items()
        if name.startswith(_PART)
    }


def _on_host(trainee: Trainee, gradient: Any) -> np.ndarray:
    if not isinstance(gradient, Rows):
        return trainee.to_host(gradient)
    values = trainee.to_host(gradient.values)
    table = np.zeros(gradient.shape, values.dtype)
    np.add.at(table, trainee.to_host(gradient.ids), values)
    return table


def torch_gradients(model: SentenceTransformer, examples: Examples, folder: Path) -> dict[str, np.ndarray]:
    """Return what ``torch.autograd`` gives in float32 for transformers' BertModel.

    Pooling and loss stand on PyTorch's hidden states, and give it their gradient; they are ``model``'s, in float32.
    """
    import torch
    from transformers import BertModel
    from transformers.utils import logging

    logging.disable_progress_bar()
    network = BertModel.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    encoded = model.tokenize([text for column in examples.columns for text in column])
    inputs = {name: torch.from_numpy(np.asarray(x)) for name, x in encoded.items()}
    states = network(**inputs).last_hidden_state
    states.backward(torch.from_numpy(_state_gradient(model, states.detach().numpy(), encoded["attention_mask"])))
    return {name: x.grad.numpy() for name, x in network.named_parameters() if x.grad is not None}


def _state_gradient(model: SentenceTransformer, states: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The gradient of the loss with respect to hidden states [texts, tokens, hidden]; the first half are anchors."""
    tape = Tape()
    vectors: Any = tape.add(states, np.zeros_like(states))
    vectors = model.pooling(vectors, mask, tape)
    for step in model.steps:
        vectors = step(vectors, tape)
    half = len(vectors.value) // 2
    _, gradient, _ = MultipleNegativesRankingLoss()([vectors.value[:half], vectors.value[half:]])
    found: np.ndarray = tape.backward(vectors, np.concatenate(gradient))[states]
    return found
