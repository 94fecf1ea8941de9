"""The tables that training computes with: operations, rules, dropout, updates, by the model's backend."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..backends import Backend
from ..operations import Operations
from .dropout import DropoutOperations
from .dropout_tape import DropoutTape
from .optimizer import Updates
from .tape import Tape
from .vjps import VectorJacobianProducts


@dataclass(frozen=True)
class TrainingTables:
    """What computes the forward pass, the backward pass, dropout, and the optimizer's steps."""

    operations: Operations
    rules: VectorJacobianProducts = field(default_factory=VectorJacobianProducts)
    dropout: DropoutOperations = field(default_factory=DropoutOperations)
    updates: Updates = field(default_factory=Updates)

    @classmethod
    def of(cls, backend: Backend) -> TrainingTables:
        """Return the tables for a model's backend: Numba's twins where it computes with Numba's.

        Raises
        ------
        ValueError
            For the backend "int8", whose weights have no gradients.
        """
        if backend.name == "int8":
            raise ValueError(
                "backend 'int8' has weights of 8 bits, and gradients need float32: load the model with "
                "backend='numba', and what comes of it with backend='int8'"
            )
        if backend.name != "numba":
            return cls(backend.operations)
        from .numba_twins import NumbaDropoutOperations, NumbaUpdates, NumbaVectorJacobianProducts

        return cls(backend.operations, NumbaVectorJacobianProducts(), NumbaDropoutOperations(), NumbaUpdates())

    def tape(self, rate: float, attention_rate: float, seed: int) -> Tape:
        """Return a new tape, with dropout if a rate is not 0."""
        if not rate and not attention_rate:
            return Tape(self.operations, self.rules)
        rates = {"rate": rate, "attention_rate": attention_rate}
        return DropoutTape(self.operations, self.rules, self.dropout, **rates, seed=seed)
