"""The state of a training run in one file, which is written whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..loading.saving import write_tensors

_PARTS = ("params", "optimizer", "best")


@dataclass
class Checkpoint:
    """Everything from which a run goes on as if it had not stopped.

    Attributes
    ----------
    settings
        What the run was started with; one with other settings must not go on from it.
    step
        How many steps are done.
    params, optimizer, best
        Arrays by name: the parameters, the optimizer's moments, and the best parameters so far, if they are others.
    history, losses
        The evaluations so far, and the loss of every step.
    """

    settings: Mapping[str, Any]
    step: int = 0
    params: Mapping[str, np.ndarray] = field(default_factory=dict)
    optimizer: Mapping[str, np.ndarray] = field(default_factory=dict)
    best: Mapping[str, np.ndarray] = field(default_factory=dict)
    history: list[dict[str, float]] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)

    def write(self, path: Path) -> None:
        """Write it; raise an `OSError` if that is not possible, and then the file is as it was."""
        tensors = {f"{part}|{name}": x for part in _PARTS for name, x in getattr(self, part).items()}
        told = {"settings": dict(self.settings), "step": self.step, "history": self.history, "losses": self.losses}
        write_tensors(path, tensors, {"minilm": json.dumps(told)})

    @classmethod
    def read(cls, path: Path, settings: Mapping[str, Any]) -> Checkpoint:
        """Read one that was written with these settings.

        Raises
        ------
        ValueError
            If the file is no checkpoint, or is of a run with other settings; both are named.
        """
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="numpy") as file:
                told = json.loads((file.metadata() or {})["minilm"])
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
        except (SafetensorError, KeyError, ValueError) as error:
            raise ValueError(f"{path} is not a checkpoint of a training run: {error}") from error
        ours, theirs = json.loads(json.dumps(dict(settings))), told["settings"]
        differing = [name for name in {**ours, **theirs} if ours.get(name) != theirs.get(name)]
        if differing:
            what = ", ".join(f"{name} was {theirs.get(name)!r} and is {ours.get(name)!r}" for name in differing)
            raise ValueError(f"{path} is of another run: {what}. Give the same settings, or delete the file")
        parts: dict[str, dict[str, np.ndarray]] = {part: {} for part in _PARTS}
        for name, x in arrays.items():
            part, _, rest = name.partition("|")
            parts[part][rest] = x
        return cls(settings, told["step"], **parts, history=told["history"], losses=told["losses"])
