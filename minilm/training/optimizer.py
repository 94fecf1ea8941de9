"""AdamW, its schedule, and the clipping of gradients."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ..arrays import Array, array_namespace
from .gradients import Rows


class Updates:
    """What a step of the optimizer computes. A backend may override it by twins."""

    def merge(self, rows: Rows) -> Rows:
        """Sum up what belongs to one row of a table: every id occurs once."""
        xp = array_namespace(rows.ids, rows.values)
        ids, places = xp.unique_inverse(rows.ids)
        one_hot = xp.arange(ids.shape[0], device=ids.device)[:, None] == xp.reshape(places, (1, -1))
        return Rows(ids, xp.astype(one_hot, rows.values.dtype) @ rows.values, rows.shape)

    def adamw(
        self,
        parameter: Array,
        gradient: Array,
        first: Array,
        second: Array,
        betas: tuple[float, float],
        size: float,
        correction: float,
        eps: float,
        decay: float,
    ) -> None:
        """Change ``parameter`` and both moments in place (Loshchilov & Hutter 2019, algorithm 2).

        ``p ← p (1 - decay)``, ``m ← β₁ m + (1 - β₁) g``, ``v ← β₂ v + (1 - β₂) g²``,
        ``p ← p - size · m / (√v / correction + eps)``, where ``size`` and ``correction`` have the factors
        ``1 - β₁ᵗ`` and ``√(1 - β₂ᵗ)`` that undo the moments' start at 0.
        """
        xp = array_namespace(parameter)
        parameter *= 1 - decay
        first += (1 - betas[0]) * (gradient - first)
        second += (1 - betas[1]) * (gradient * gradient - second)
        parameter -= size * first / (xp.sqrt(second) / correction + eps)


class AdamW:
    """Adam with decoupled weight decay, as ``torch.optim.AdamW``; biases and LayerNorm's parameters do not decay.

    A table of embeddings of which a few rows occur has moments for those rows alone. The result is that of the dense
    formula: without moments, a row only decays.

    Parameters
    ----------
    params
        The arrays that are trained, by their full names. `step` writes into them.
    betas, eps, weight_decay
        As in PyTorch.
    updates
        What computes.
    threads
        How many parameters are updated side by side.
    """

    def __init__(
        self,
        params: Mapping[str, Array],
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
        updates: Updates | None = None,
        threads: int = 1,
    ) -> None:
        self.params: dict[str, Any] = dict(params)
        self.betas: tuple[float, float] = betas
        self.eps: float = eps
        self.weight_decay: float = weight_decay
        self.steps: int = 0
        self._updates, self._threads = updates or Updates(), threads
        self._moments: dict[str, tuple[Array, Array]] = {}  # of whole parameters, or of the rows that occurred
        self._rows: dict[str, Array] = {}  # which rows these are, ascending

    def step(self, gradients: Mapping[str, Any], learning_rate: float, max_norm: float | None = None) -> float:
        """Change the parameters by one step, and return the norm of all gradients together.

        Parameters
        ----------
        gradients
            By name, arrays or `minilm.training.gradients.Rows`. A parameter without one stays as it is.
        learning_rate
            Of this step.
        max_norm
            If the norm is above it, all gradients are scaled down to it, as ``torch.nn.utils.clip_grad_norm_`` does.

        Raises
        ------
        FloatingPointError
            If the norm is not finite; nothing has been changed then.
        """
        merged = {name: self._updates.merge(g) if isinstance(g, Rows) else g for name, g in gradients.items()}
        norm = gradient_norm(merged)
        if not math.isfinite(norm):
            raise FloatingPointError(f"the norm of the gradients is {norm}")
        scale = 1.0 if max_norm is None else min(1.0, max_norm / (norm + 1e-6))
        self.steps += 1
        size = learning_rate / (1 - self.betas[0] ** self.steps)
        correction = math.sqrt(1 - self.betas[1] ** self.steps)

        def update(item: tuple[str, Any]) -> None:
            name, gradient = item
            decay = learning_rate * self.weight_decay if decays(name) else 0.0
            rule = (self.betas, size, correction, self.eps, decay)
            if isinstance(gradient, Rows) and (name in self._rows or name not in self._moments):
                self._update_rows(name, gradient, scale, rule)
            else:
                dense = gradient.dense() if isinstance(gradient, Rows) else gradient
                parameter, (first, second) = self.params[name], self._whole_moments(name)
                self._updates.adamw(parameter, dense if scale == 1 else dense * scale, first, second, *rule)

        if self._threads == 1:
            for item in merged.items():
                update(item)
        else:
            with ThreadPoolExecutor(self._threads) as workers:
                list(workers.map(update, sorted(merged.items(), key=lambda item: -_size(item[1]))))
        return norm

    def _whole_moments(self, name: str) -> tuple[Array, Array]:
        if name not in self._moments or name in self._rows:
            xp = array_namespace(self.params[name])
            whole = xp.zeros_like(self.params[name]), xp.zeros_like(self.params[name])
            if name in self._rows:
                rows = self._rows.pop(name)
                for moment, of_rows in zip(whole, self._moments[name], strict=True):
                    moment[rows, :] = of_rows
            self._moments[name] = whole
        return self._moments[name]

    def _update_rows(self, name: str, gradient: Rows, scale: float, rule: tuple[Any, ...]) -> None:
        """Update the rows that have occurred by now; the others have no moments, and decay at most."""
        table = self.params[name]
        xp = array_namespace(table)
        known = self._rows.get(name)
        rows = gradient.ids if known is None else xp.unique_values(xp.concat([known, gradient.ids]))
        rows = xp.sort(rows)

        def spread(values: Array, places: Array) -> Array:
            wide = xp.zeros((rows.shape[0], table.shape[1]), dtype=table.dtype, device=table.device)
            wide[xp.searchsorted(rows, places), :] = values
            return wide

        if known is None:
            first, second = (xp.zeros_like(gradient.values) for _ in range(2))
        elif rows.shape == known.shape:
            first, second = self._moments[name]
        else:
            first, second = (spread(moment, known) for moment in self._moments[name])
        self._rows[name], self._moments[name] = rows, (first, second)
        changed = xp.take(table, rows, axis=0)
        if rule[-1]:
            table *= 1 - rule[-1]
        self._updates.adamw(changed, spread(gradient.values * scale, gradient.ids), first, second, *rule)
        table[rows, :] = changed

    def state(self) -> dict[str, Array]:
        """Return the moments, by name, to be kept beside the parameters and ``steps``."""
        found = {f"rows.{name}": rows for name, rows in self._rows.items()}
        for name, (first, second) in self._moments.items():
            found |= {f"first.{name}": first, f"second.{name}": second}
        return found

    def load_state(self, state: Mapping[str, Array], steps: int) -> None:
        """Go on from what `state` returned."""
        names = [name.removeprefix("first.") for name in state if name.startswith("first.")]
        self._moments = {name: (state[f"first.{name}"], state[f"second.{name}"]) for name in names}
        self._rows = {name.removeprefix("rows."): rows for name, rows in state.items() if name.startswith("rows.")}
        self.steps = steps


def _size(gradient: Any) -> int:
    return math.prod((gradient.values if isinstance(gradient, Rows) else gradient).shape)


def decays(name: str) -> bool:
    """Whether weight decay applies to the parameter of this full name: not to a bias, not to LayerNorm."""
    return not name.endswith("bias") and "LayerNorm" not in name


def gradient_norm(gradients: Mapping[str, Any]) -> float:
    """``√Σ g²`` over all gradients; of `Rows`, every id must occur once."""
    total = 0.0
    for gradient in gradients.values():
        values = gradient.values if isinstance(gradient, Rows) else gradient
        flat = array_namespace(values).reshape(values, (-1,))
        total += float(flat @ flat)
    return math.sqrt(total) if total >= 0 else math.nan  # a NaN is not


def linear_schedule(steps: int, warmup: int) -> Callable[[int], float]:
    """Return the factor of the learning rate at each step from 0: up to 1 in ``warmup`` steps, then down to 0.

    As ``get_linear_schedule_with_warmup`` in transformers.
    """

    def factor(step: int) -> float:
        if step < warmup:
            return step / max(1, warmup)
        return max(0.0, (steps - step) / max(1, steps - warmup))

    return factor
