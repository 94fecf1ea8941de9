"""`fit`: fine-tune a model on somebody's own data."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import math
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..backends.threads import default_threads
from ..sentences.text_model import TextModel
from .batches import Batches
from .checkpointing import Checkpoint
from .choosing import make_loss
from .data import Examples, read_examples
from .dropout import mixed
from .evaluation import evaluate
from .loss import Loss
from .optimizer import AdamW, linear_schedule
from .tables import TrainingTables
from .trainee import Trainee

logger: logging.Logger = logging.getLogger("minilm")

SAVE_SECONDS = 300  # after so long the next step is followed by a checkpoint


@dataclass(frozen=True)
class Fit:
    """What `fit` returns.

    Attributes
    ----------
    model
        A model like the one that was given, with the parameters of the best evaluation, or without one the last.
    history
        A row for each evaluation: ``step``, ``epoch``, the mean ``loss`` since the last, and what was measured.
    losses
        The loss of every step.
    """

    model: Any
    history: list[dict[str, float]]
    losses: list[float] = field(repr=False, default_factory=list)


class TrainingStoppedError(RuntimeError):
    """A loss or a gradient is not a finite number. ``fit`` is what was reached until then."""

    def __init__(self, message: str, fit: Fit) -> None:
        super().__init__(message)
        self.fit = fit


def fit(
    model: TextModel,
    data: Any,
    loss: str | Loss | None = None,
    *,
    epochs: int = 1,
    batch_size: int = 32,
    learning_rate: float = 2e-5,
    evaluation: Any = None,
    evaluations: int = 1,
    checkpoint: str | os.PathLike[str] | None = None,
    warmup: float = 0.1,
    weight_decay: float = 0.01,
    max_norm: float = 1.0,
    dropout: float | None = None,
    seed: int = 0,
    threads: int | None = None,
    kept_tokens: int | None = None,
    show_progress_bar: bool | None = None,
) -> Fit:
    """Fine-tune a model, and return a new one; the one that is given stays as it is.

    Parameters
    ----------
    model
        A `SentenceTransformer`, a `CrossEncoder` or a `TextClassifier`.
    data
        Rows of texts, with a label or without: see `minilm.training.data.read_examples`.
    loss
        One of `minilm.training.losses`, or its name. None: for vectors, `CoSENTLoss` if there are labels and
        `MultipleNegativesRankingLoss` if not; for logits cross-entropy.
    epochs, batch_size, learning_rate
        How often all rows are seen, how many in a step (they are shared out evenly), and the largest rate of AdamW.
    evaluation
        Held-out rows like ``data``: the model is measured before the first step, ``evaluations`` times in each epoch,
        and its best state is returned. See `minilm.training.evaluation.evaluate`.
    checkpoint
        A file to which the run is saved at each evaluation, at the end of an epoch, every few minutes and at Ctrl-C.
        If it is there already, the run goes on from it, to the same bits.
    warmup
        Share of the steps in which the learning rate rises; then it falls to 0, both linearly.
    weight_decay, max_norm
        Of AdamW; and the norm to which gradients are clipped.
    dropout
        Its rate; None: those of the model's config, 0.1 if it tells none.
    seed
        Of the order of the rows and of dropout. One seed and one number of threads give the same bits on one machine.
    threads
        By default the model's.
    kept_tokens
        A batch of more tokens is computed in two passes, with less memory; see `minilm.training.batches`.
    show_progress_bar
        A bar with the loss on stderr; None shows one if this package's logger is at level INFO or DEBUG.

    Raises
    ------
    ValueError, TypeError
        For data, labels or settings that do not fit the model or the loss.
    TrainingStoppedError
        If a loss or gradient is not finite: the batch and its rows are named. The parameters are those before it.

    Examples
    --------
    >>> import minilm
    >>> from minilm.training.fitting import fit
    >>> model = minilm.SentenceTransformer("sentence-transformers/all-MiniLM-L6-v2")
    >>> pairs = [("What is the capital of France?", "Paris"), ("Who wrote Faust?", "Goethe")]
    >>> tuned = fit(model, pairs, learning_rate=1e-4, epochs=2).model
    >>> tuned.encode("Paris").shape
    (384,)
    """
    for name, value in (("epochs", epochs), ("batch_size", batch_size), ("evaluations", evaluations)):
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
            raise ValueError(f"{name} must be an integer of at least 1, got {value!r}")
    examples = read_examples(data)
    held_out = None if evaluation is None else read_examples(evaluation, "evaluation")
    run = _Run(
        model,
        examples,
        make_loss(loss, model, examples),
        held_out,
        {
            "epochs": int(epochs),
            "batch_size": int(batch_size),
            "learning_rate": learning_rate,
            "evaluations": int(evaluations),
            "warmup": warmup,
            "weight_decay": weight_decay,
            "max_norm": max_norm,
            "dropout": dropout,
            "seed": seed,
        },
        None if checkpoint is None else Path(checkpoint),
        default_threads() if threads is None else threads,
        kept_tokens,
    )
    show = logger.isEnabledFor(logging.INFO) if show_progress_bar is None else show_progress_bar
    return run.to_the_end(show)


class _Run:
    """One call of `fit`."""

    def __init__(
        self,
        model: TextModel,
        examples: Examples,
        loss: Loss,
        held_out: Examples | None,
        settings: dict[str, Any],
        checkpoint: Path | None,
        threads: int,
        kept_tokens: int | None,
    ) -> None:
        self.examples, self.loss, self.held_out, self.settings = examples, loss, held_out, settings
        self.trainee, self.path = Trainee(model), checkpoint
        dropout = settings["dropout"]
        rates = self.trainee.dropout_rates() if dropout is None else (dropout, dropout)
        if not all(0 <= rate < 1 for rate in rates):
            raise ValueError(f"dropout must be at least 0 and below 1, got {dropout!r}")
        tables = TrainingTables.of(model.backend)
        self.batches = Batches(self.trainee, loss, tables, rates=rates, threads=threads, kept_tokens=kept_tokens)
        loss.params = {name: np.array(x, model.backend.dtype) for name, x in loss.params.items()}
        self.params = {**self.trainee.params, **{f"loss/{name}": x for name, x in loss.params.items()}}
        self.optimizer = AdamW(
            self.params, weight_decay=settings["weight_decay"], updates=tables.updates, threads=threads
        )
        self.columns = self.trainee.tokenize(examples)
        self.labels = loss.check_labels(examples.labels)
        least = loss.least_rows(len(examples.columns))
        if min(len(examples), settings["batch_size"]) < least:
            raise ValueError(
                f"{type(loss).__name__} compares rows with each other, so that a batch needs {least} of them: the data "
                f"has {len(examples)}, batch_size is {settings['batch_size']}"
            )
        self.per_epoch = min(-(-len(examples) // settings["batch_size"]), len(examples) // least)
        self.steps = settings["epochs"] * self.per_epoch
        self.rate = linear_schedule(self.steps, math.ceil(settings["warmup"] * self.steps))
        self.history: list[dict[str, float]] = []
        self.best: Mapping[str, Any] = {}
        self.losses: list[float] = []

    def to_the_end(self, show: bool) -> Fit:
        start, self.saved = self._resume(), time.monotonic()
        if start == 0 and self.held_out is not None and not self.history:
            self._evaluate(0)
        marks = {
            round(self.per_epoch * (i + 1) / self.settings["evaluations"]) for i in range(self.settings["evaluations"])
        }
        with _interruptible() as interrupted, _progress(self.steps, start, show) as progress:
            for step in range(start, self.steps):
                self._step(step)
                progress(self.losses[-1])
                in_epoch = step % self.per_epoch + 1
                if in_epoch in marks and self.held_out is not None:
                    self._evaluate(step + 1)
                if interrupted.is_set():
                    self._save(step + 1)
                    raise KeyboardInterrupt
                late = time.monotonic() - self.saved > SAVE_SECONDS
                if in_epoch in marks or in_epoch == self.per_epoch or late:
                    self._save(step + 1)
        return self._finished()

    def _step(self, step: int) -> None:
        epoch, batch = divmod(step, self.per_epoch)
        order = np.random.default_rng([self.settings["seed"], epoch]).permutation(len(self.examples))
        rows = np.array_split(order, self.per_epoch)[batch]
        columns = [[column[row] for row in rows] for column in self.columns]
        labels = None if self.labels is None else self.labels[rows]
        seed = mixed(self.settings["seed"] % 2**32 ^ mixed(step))
        found = self.batches(columns, labels, seed)
        try:
            if not math.isfinite(found.loss):
                raise FloatingPointError(f"the loss is {found.loss}")
            if not self.losses:
                self._report_still(found.gradients)
            rate = self.settings["learning_rate"] * self.rate(step)
            self.optimizer.step(found.gradients, rate, self.settings["max_norm"])
        except FloatingPointError as error:
            self._save(step)
            some = ", ".join(map(str, rows[:8])) + (", …" if len(rows) > 8 else "")
            raise TrainingStoppedError(
                f"{error} in step {step + 1} (epoch {epoch + 1}, batch {batch + 1}, rows {some}). The parameters from "
                "before are kept. A smaller learning_rate may help",
                self._finished(),
            ) from error
        self.losses.append(found.loss)

    def _report_still(self, gradients: Mapping[str, Any]) -> None:
        """Warn if parameters have no gradient, but for the pooler's, which a sentence model does not use."""
        still = [name for name in self.params if name not in gradients and ".pooler." not in name.replace("/", ".")]
        if still:
            warnings.warn(
                f"{len(still)} parameters have no gradient and stay as they are: {', '.join(still[:5])}", stacklevel=2
            )

    def _evaluate(self, step: int) -> None:
        assert self.held_out is not None
        measured = evaluate(self.trainee.model, self.held_out)
        since = self.losses[-(step - int(self.history[-1]["step"])) :] if self.history and step else []
        row = {"step": step, "epoch": step / self.per_epoch, "loss": float(np.mean(since)) if since else math.nan}
        main = next(iter(measured))
        if not any(earlier[main] >= measured[main] for earlier in self.history):
            self.best = {name: np.copy(self.trainee.to_host(x)) for name, x in self.trainee.params.items()}
        self.history.append({**row, **measured})

    # ---- the checkpoint ----------------------------------------------------------------------------------------------

    def _told(self) -> dict[str, Any]:
        """What the run was started with; one that goes on must have the same."""
        digest = hashlib.sha256()
        for name, x in self.trainee.params.items():
            digest.update(name.encode() + np.ascontiguousarray(self.trainee.to_host(x)).data)
        loss = {name: value for name, value in vars(self.loss).items() if isinstance(value, (str, int, float))}
        data = {"data": self.examples.digest(), "evaluation": self.held_out and self.held_out.digest()}
        return {**self.settings, "loss": [type(self.loss).__name__, loss], **data, "model": digest.hexdigest()}

    def _resume(self) -> int:
        """Return how many steps are done."""
        if self.path is None:
            return 0
        if not self.path.absolute().parent.is_dir():
            raise FileNotFoundError(f"{self.path}: there is no folder {self.path.parent} for the checkpoint")
        self._settings = self._told()
        if not self.path.exists():
            return 0
        found = Checkpoint.read(self.path, self._settings)
        for name, x in self.params.items():
            x[...] = self.trainee.from_host(found.params[name])
        state = {name: self.trainee.from_host(np.array(x)) for name, x in found.optimizer.items()}
        self.optimizer.load_state(state, found.step)
        self.best, self.history, self.losses = found.best, found.history, found.losses
        logger.info("%s: going on after step %d of %d", self.path, found.step, self.steps)
        return found.step

    def _save(self, step: int) -> None:
        self.saved = time.monotonic()
        if self.path is None:
            return
        host = self.trainee.to_host
        state = Checkpoint(
            self._settings,
            step,
            {name: host(x) for name, x in self.params.items()},
            {name: host(x) for name, x in self.optimizer.state().items()},
            self.best,
            self.history,
            self.losses,
        )
        try:
            state.write(self.path)
        except OSError as error:
            warnings.warn(f"the checkpoint could not be written, and training goes on: {error}", stacklevel=2)

    def _finished(self) -> Fit:
        return Fit(self.trainee.finished(self.best or None), list(self.history), list(self.losses))


@contextlib.contextmanager
def _progress(steps: int, start: int, show: bool) -> Iterator[Callable[[float], None]]:
    """Yield what is called with the loss after every step; it moves a bar on stderr if ``show``, and there is one."""
    if not show or sys.stderr is None:
        yield lambda loss: None
        return
    from tqdm.auto import tqdm

    with tqdm(total=steps, initial=start, unit="step", desc="Fine-tuning") as bar:

        def move(loss: float) -> None:
            bar.set_postfix(loss=f"{loss:.4f}", refresh=False)
            bar.update()

        yield move


@contextlib.contextmanager
def _interruptible() -> Iterator[threading.Event]:
    """Let Ctrl-C wait for the end of a step: yield what says that it came. A second one interrupts at once."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():  # only there can signals be handled
        yield asked
        return
    before = signal.getsignal(signal.SIGINT)

    def ask(number: int, frame: Any) -> None:
        if asked.is_set() or not callable(before):
            raise KeyboardInterrupt
        asked.set()

    signal.signal(signal.SIGINT, ask)
    try:
        yield asked
    finally:
        signal.signal(signal.SIGINT, before)
