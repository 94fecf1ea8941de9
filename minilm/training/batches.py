"""The loss and the gradients of a batch: packs side by side, within a bound of memory.

The texts of all columns of a batch are packed without padding, and each thread takes packs of its own, with every
product held to one thread. Between the forward pass and the backward pass stands the loss, which needs the outputs of
the whole batch. If what the tapes of a whole batch would keep fits into the budget, they are kept. If not, the first
pass keeps nothing, and each pack runs once more for its backward pass (Gao et al. 2021, "GradCache"). Its memory then
does not grow with the batch, and its numbers are the same, as dropout follows from seeds.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..arrays import Array, array_namespace
from ..backends.threads import limit_threads
from ..packing import Pack, Tokens, split_into_packs
from .dropout import mixed
from .gradients import Gradients
from .loss import Loss
from .tables import TrainingTables
from .tape import Tape
from .trainee import Trainee

PACK_TOKENS = 1024  # enough for products at full speed, little enough to share out evenly


@dataclass(frozen=True)
class BatchResult:
    """What a batch gives.

    Attributes
    ----------
    loss
        The number.
    gradients
        Of every trained parameter that the loss depends on, by name, the loss's own as ``loss/name``.
    """

    loss: float
    gradients: dict[str, Any]


class Batches:
    """Computes the loss and the gradients of batches.

    Parameters
    ----------
    trainee, loss
        What is trained, and towards what.
    tables
        The operations of the forward pass, the rules of the backward pass, and dropout's.
    rates
        Of dropout: for numbers, and for attention's probabilities.
    threads
        How many packs run side by side. The sums are taken in an order that depends on it.
    kept_tokens
        A batch of more tokens runs its forward pass twice. None: as many as about 1 GiB holds.
    """

    def __init__(
        self,
        trainee: Trainee,
        loss: Loss,
        tables: TrainingTables,
        *,
        rates: tuple[float, float] = (0.0, 0.0),
        threads: int = 1,
        kept_tokens: int | None = None,
    ) -> None:
        self.trainee: Trainee = trainee
        self.loss: Loss = loss
        self._tables, self._rates, self._threads = tables, rates, threads
        self._kept_tokens = (1 << 30) // _bytes_per_token(trainee) if kept_tokens is None else kept_tokens

    def __call__(self, columns: Sequence[Sequence[Tokens]], labels: np.ndarray | None, seed: int = 0) -> BatchResult:
        """Compute a batch: for each column the tokens of every row, and the labels [rows].

        ``seed`` is that of dropout.
        """
        texts = [tokens for column in columns for tokens in column]
        total = sum(len(text.input_ids) for text in texts)
        share = min(PACK_TOKENS, -(-total // self._threads))
        packs = list(split_into_packs(texts, 0, share, len(texts)))
        shares = [packs[i :: self._threads] for i in range(self._threads)]
        keeping = total <= self._kept_tokens
        with limit_threads(1), ThreadPoolExecutor(self._threads) as workers:
            forward = list(workers.map(lambda mine: [self._forward(pack, seed, keeping) for pack in mine], shares))
            values = [(pack.rows, output) for mine, done in zip(shares, forward, strict=True)
                      for pack, (output, _) in zip(mine, done, strict=True)]  # fmt: skip
            outputs = _gathered(values, len(texts))
            rows = len(columns[0])
            parts = [outputs[i : i + rows, :] for i in range(0, len(texts), rows)]
            loss, gradients, own = self.loss(parts, self._placed(labels))
            xp = array_namespace(outputs)
            whole = xp.concat(list(gradients))

            def backward(mine: list[Pack], done: list[Any]) -> Gradients:
                found = Gradients()
                for i, pack in enumerate(mine):
                    recorded, done[i] = done[i][1], None  # so that its memory is free when its pass is over
                    if recorded is None:
                        _, recorded = self._forward(pack, seed, True)
                    tape, output = recorded
                    rows = xp.asarray(pack.rows, device=whole.device)
                    with np.errstate(all="ignore"):  # what is not finite is found in the norm of all gradients
                        tape.backward(output, xp.take(whole, rows, axis=0), into=found)
                return found

            found = list(workers.map(backward, shares, forward))
        merged = found[0]
        for more in found[1:]:
            for x in self.trainee.params.values():
                if x in more:
                    merged.add(x, more.take(x))
        named = {name: merged[x] for name, x in self.trainee.params.items() if x in merged}
        return BatchResult(loss, named | {f"loss/{name}": g for name, g in own.items()})

    def _forward(self, pack: Pack, seed: int, keep: bool) -> tuple[Array, tuple[Tape, Any] | None]:
        """Run a pack; return the outputs, and, to keep, the tape with the recorded ones."""
        ours = mixed(seed ^ mixed(int(pack.rows[0])))
        tape = self._tables.tape(*self._rates, seed=ours)
        with self.trainee.model.backend.on_device(), np.errstate(all="ignore"):  # or, here, in the loss
            output = self.trainee.outputs(pack, tape)
        return output.value, (tape, output) if keep else None

    def _placed(self, labels: np.ndarray | None) -> Array | None:
        return None if labels is None else self.trainee.model.backend.from_numpy(labels)


def _bytes_per_token(trainee: Trainee) -> int:
    """About what a tape keeps of a token: what goes into the products and LayerNorms, and the activation's input."""
    config = trainee.network.config
    numbers: int = config.num_hidden_layers * (8 * config.hidden_size + 2 * config.intermediate_size)
    return numbers * int(np.dtype(trainee.model.backend.dtype).itemsize)


def _gathered(values: list[tuple[np.ndarray, Array]], count: int) -> Array:
    """Put the outputs of all packs into the order of the texts, [texts, width]."""
    xp = array_namespace(values[0][1])
    stacked = xp.concat([output for _, output in values])
    order = np.argsort(np.concatenate([rows for rows, _ in values]))
    return xp.take(stacked, xp.asarray(order, device=stacked.device), axis=0)
