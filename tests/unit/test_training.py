"""Fine-tuning: what it returns, that it goes on after an interruption, and what becomes of bad data."""

from __future__ import annotations

import json
import os
import signal
import threading
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from minilm import BertConfig, SentenceTransformer, models
from minilm.cli import main
from minilm.parameters import flatten
from minilm.sentences.cross_encoder import CrossEncoder
from minilm.sentences.modules import Dense, Normalize, Pooling, Transformer
from minilm.sentences.text_classifier import TextClassifier
from minilm.training import fitting, losses
from minilm.training.batches import Batches
from minilm.training.checkpointing import Checkpoint
from minilm.training.choosing import make_loss
from minilm.training.data import Examples, read_examples
from minilm.training.evaluation import evaluate, pearson, ranks
from minilm.training.fitting import TrainingStoppedError, fit
from minilm.training.gradients import Rows
from minilm.training.optimizer import linear_schedule
from minilm.training.tables import TrainingTables
from minilm.training.trainee import Trainee

PAIRS = [
    ("What is the capital of France?", "Paris"),
    ("Who wrote Faust?", "Johann Wolfgang von Goethe"),
    ("How high is Mont Blanc?", "4,806 metres above the sea"),
    ("When did the wall fall?", "In November 1989"),
    ("What do bees make?", "Honey and wax, from what they gather in a summer"),
    ("How many legs has a spider?", "Eight"),
    ("Where do penguins live?", "In the south"),
]


def network(random_params: Any, kind: Any = models.BertModel, dtype: str = "float32", **settings: Any) -> Any:
    config = BertConfig(
        vocab_size=30522, hidden_size=12, num_hidden_layers=2, num_attention_heads=3, intermediate_size=20,
        max_position_embeddings=40, **settings,
    )  # fmt: skip
    params = {name: x.astype(dtype) for name, x in flatten(random_params(kind.shapes(config)))}
    from minilm.parameters import unflatten

    return kind(unflatten(params), config, "numpy" if dtype == "float64" else None)


@pytest.fixture
def tokenizer(model_dir: Path) -> Any:
    from minilm import AutoTokenizer

    return AutoTokenizer.from_pretrained(model_dir)


@pytest.fixture
def small(random_params: Any, tokenizer: Any) -> SentenceTransformer:
    """A random sentence model, with a Dense after its pooling."""
    weight = np.random.default_rng(3).normal(0, 0.3, (8, 12)).astype(np.float32)
    dense = Dense({"linear": {"weight": weight, "bias": np.zeros(8, np.float32)}})
    modules = [Transformer(network(random_params), tokenizer), Pooling(), dense, Normalize()]
    return SentenceTransformer(modules=modules, truncation="silent", threads=2)


def parameters(model: Any) -> dict[str, np.ndarray]:
    found = {name: np.array(x) for name, x in flatten(model.transformer.model.params)}
    for i, step in enumerate(getattr(model, "steps", ())):
        found |= {f"{i}.{name}": np.array(x) for name, x in flatten(step.params)} if isinstance(step, Dense) else {}
    return found


def assert_equal(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> None:
    assert set(a) == set(b)
    for name, x in a.items():
        np.testing.assert_array_equal(x, b[name], err_msg=name)


# ---- a batch ---------------------------------------------------------------------------------------------------------


def batch_of(model: Any, loss: Any, threads: int = 1, kept_tokens: int | None = None, rate: float = 0.0) -> Any:
    trainee = Trainee(model)
    batches = Batches(
        trainee, loss, TrainingTables.of(model.backend), rates=(rate, rate), threads=threads, kept_tokens=kept_tokens
    )
    return batches(trainee.tokenize(read_examples(PAIRS)), None, seed=9)


def dense(gradient: Any) -> np.ndarray:
    return gradient.dense() if isinstance(gradient, Rows) else gradient


def test_a_batch_has_the_same_gradients_in_any_number_of_packs(
    small: SentenceTransformer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("minilm.training.batches.PACK_TOKENS", 20)
    loss = losses.MultipleNegativesRankingLoss()
    expected = batch_of(small, loss)
    assert len(expected.gradients) > 30
    for threads, kept in ((1, 0), (2, None), (3, 0), (7, 10)):
        found = batch_of(small, loss, threads, kept)
        assert found.loss == pytest.approx(expected.loss, rel=1e-6)
        for name, gradient in expected.gradients.items():
            a, b = dense(found.gradients[name]), dense(gradient)
            assert np.max(np.abs(a - b)) <= 1e-5 * max(np.max(np.abs(b)), 1e-2), name


def test_less_memory_gives_the_same_bits(small: SentenceTransformer) -> None:
    loss = losses.MultipleNegativesRankingLoss()
    kept, twice = (batch_of(small, loss, 2, tokens, 0.1) for tokens in (None, 0))
    assert kept.loss == twice.loss
    for name, gradient in kept.gradients.items():
        np.testing.assert_array_equal(dense(gradient), dense(twice.gradients[name]))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_batch_against_central_differences(dtype: str, random_params: Any, tokenizer: Any) -> None:
    """The whole way: texts, packs, pooling, loss, with dropout."""
    transformer = Transformer(network(random_params, dtype=dtype), tokenizer)
    model = SentenceTransformer(modules=[transformer, Pooling(("mean", "cls"))], threads=1)
    trainee, loss = Trainee(model), losses.MultipleNegativesRankingLoss(scale=2)
    batches = Batches(trainee, loss, TrainingTables.of(model.backend), rates=(0.1, 0.1), threads=2)
    columns = trainee.tokenize(read_examples(PAIRS))
    found, rng = batches(columns, None, seed=3), np.random.default_rng(1)
    step, tolerance = (1e-5, 1e-7) if dtype == "float64" else (3e-3, 2e-2)
    for name, x in trainee.params.items():
        if name not in found.gradients:
            assert "pooler" in name
            continue
        gradient = dense(found.gradients[name])
        place = np.unravel_index(np.argmax(np.abs(gradient)), x.shape) if rng.random() < 0.7 else None
        place = tuple(rng.integers(0, x.shape)) if place is None else place
        before, values = x[place], []
        for change in (step, -step):
            x[place] = before + change
            values.append(batches(columns, None, seed=3).loss)
        x[place] = before
        scale = max(float(np.abs(gradient).max()), 3e-3)
        assert abs(gradient[place] - (values[0] - values[1]) / (2 * step)) <= tolerance * scale, name


# ---- fit -------------------------------------------------------------------------------------------------------------


def test_fit_learns_and_leaves_the_model_alone(small: SentenceTransformer) -> None:
    before = parameters(small)
    found = fit(small, PAIRS, epochs=40, batch_size=7, learning_rate=3e-3, evaluation=PAIRS, dropout=0.0)
    assert_equal(parameters(small), before)
    assert found.losses[-1] < 0.5 * found.losses[0]
    assert len(found.losses) == 40
    assert found.history[0]["step"] == 0 and found.history[-1]["step"] == 40
    assert found.history[-1]["mrr@10"] > found.history[0]["mrr@10"]
    assert found.history[-1]["loss"] == pytest.approx(found.losses[-1])
    after = parameters(found.model)
    changed = [name for name in before if not np.array_equal(before[name], after[name])]
    assert set(before) - set(changed) == {"pooler.dense.weight", "pooler.dense.bias"}
    assert evaluate(found.model, read_examples(PAIRS))["mrr@10"] == max(row["mrr@10"] for row in found.history)


def test_the_best_state_is_kept(small: SentenceTransformer, monkeypatch: pytest.MonkeyPatch) -> None:
    states: list[dict[str, np.ndarray]] = []

    def measured(model: Any, examples: Any) -> dict[str, float]:
        states.append(parameters(model))
        return {"main": [0.1, 0.3, 0.7, 0.7, 0.2][len(states) - 1], "other": float(len(states))}

    monkeypatch.setattr(fitting, "evaluate", measured)
    found = fit(small, PAIRS, epochs=2, evaluations=2, batch_size=2, learning_rate=1e-3, evaluation=PAIRS)
    assert [row["main"] for row in found.history] == [0.1, 0.3, 0.7, 0.7, 0.2]
    assert [row["step"] for row in found.history] == [0, 2, 3, 5, 6]
    assert_equal(parameters(found.model), states[2])


def test_a_seed_makes_a_run_repeatable_to_the_bit(small: SentenceTransformer) -> None:
    first, second, other = (fit(small, PAIRS, epochs=2, batch_size=3, seed=seed, threads=2) for seed in (4, 4, 5))
    assert first.losses == second.losses != other.losses
    assert_equal(parameters(first.model), parameters(second.model))


@pytest.mark.parametrize("warmup", [0.0, 0.5])
def test_the_learning_rate(warmup: float) -> None:
    factor = linear_schedule(10, int(10 * warmup))
    assert [round(factor(step), 6) for step in (0, 5, 9)] == ([1, 0.5, 0.1] if not warmup else [0, 1, 0.2])


def test_a_run_that_was_interrupted_goes_on_to_the_same_bits(
    small: SentenceTransformer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings: dict[str, Any] = {"epochs": 3, "batch_size": 2, "evaluation": PAIRS, "evaluations": 2, "seed": 1}
    whole, path = fit(small, PAIRS, **settings), tmp_path / "run.checkpoint"
    original, calls = fitting._Run._step, 0

    def interrupted(self: Any, step: int) -> None:
        nonlocal calls
        calls += 1
        if calls in (3, 7):
            os.kill(os.getpid(), signal.SIGINT)  # in the middle of a step
        original(self, step)

    monkeypatch.setattr(fitting._Run, "_step", interrupted)
    handler = signal.getsignal(signal.SIGINT)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            fit(small, PAIRS, **settings, checkpoint=path)
        assert signal.getsignal(signal.SIGINT) is handler
        assert path.exists()
    found = fit(small, PAIRS, **settings, checkpoint=path)
    assert calls == 9  # no step was done twice
    assert found.losses == whole.losses
    np.testing.assert_equal(found.history, whole.history)
    assert_equal(parameters(found.model), parameters(whole.model))
    again = fit(small, PAIRS, **settings, checkpoint=path)  # nothing is left to do
    assert calls == 9
    assert_equal(parameters(again.model), parameters(whole.model))
    assert [file.name for file in tmp_path.iterdir()] == ["run.checkpoint"]


def test_a_second_ctrl_c_interrupts_at_once(small: SentenceTransformer, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(self: Any, step: int) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError("the step went on")

    monkeypatch.setattr(fitting._Run, "_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fit(small, PAIRS)


def test_fit_runs_in_other_threads_too(small: SentenceTransformer) -> None:
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(fit(small, PAIRS)))
    thread.start()
    thread.join()
    assert len(found[0].losses) == 1


def test_a_checkpoint_of_another_run_is_refused(small: SentenceTransformer, tmp_path: Path) -> None:
    path = tmp_path / "run.checkpoint"
    fit(small, PAIRS, checkpoint=path)
    for changed, what in (
        ({"batch_size": 3}, "batch_size was 32 and is 3"),
        ({"loss": losses.MultipleNegativesRankingLoss(scale=5)}, "loss was"),
        ({"data": PAIRS[:5]}, "data was"),
        ({"evaluation": PAIRS}, "evaluation was None"),
    ):
        data = changed.pop("data", PAIRS)
        with pytest.raises(ValueError, match=rf"run\.checkpoint is of another run: {what}.*or delete the file"):
            fit(small, data, checkpoint=path, **changed)  # type: ignore[arg-type]
    other = fit(small, PAIRS, epochs=3, learning_rate=1e-2).model
    with pytest.raises(ValueError, match="model was"):
        fit(other, PAIRS, checkpoint=path)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"run\.checkpoint is not a checkpoint of a training run"):
        fit(small, PAIRS, checkpoint=path)
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*nowhere for the checkpoint"):
        fit(small, PAIRS, checkpoint=tmp_path / "nowhere" / "run.checkpoint")


def test_a_full_disk_does_not_stop_the_training(
    small: SentenceTransformer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written, path = 0, tmp_path / "run.checkpoint"
    original = Checkpoint.write

    def write(self: Checkpoint, path: Path) -> None:
        nonlocal written
        written += 1
        if written == 2:
            raise OSError(28, "No space left on device", str(path))
        original(self, path)

    monkeypatch.setattr(Checkpoint, "write", write)
    with pytest.warns(UserWarning, match=r"could not be written, and training goes on.*No space left"):
        found = fit(small, PAIRS, epochs=3, checkpoint=path)
    assert (written, len(found.losses)) == (3, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(fit(small, PAIRS, epochs=3, checkpoint=path).losses) == 3


@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_what_is_not_finite_stops_the_run_and_keeps_the_last_good_state(
    where: str, small: SentenceTransformer, tmp_path: Path
) -> None:
    class Broken(losses.MultipleNegativesRankingLoss):
        def __init__(self) -> None:
            super().__init__()
            self.calls = 0

        def __call__(self, outputs: Any, labels: Any = None) -> Any:
            self.calls += 1
            found = super().__call__(outputs, labels)
            if self.calls < 3:
                return found
            if where == "loss":
                return found._replace(loss=float("nan"))
            return found._replace(gradients=tuple(np.full_like(g, np.inf) for g in found.gradients))

    path = tmp_path / "run.checkpoint"
    good = fit(small, PAIRS, epochs=2, batch_size=2, warmup=0, learning_rate=1e-3)
    with (
        np.errstate(all="ignore"),
        pytest.raises(TrainingStoppedError, match=r"in step 3 \(epoch 1, batch 3, rows [\d, ]+\).*smaller") as error,
    ):
        fit(small, PAIRS, Broken(), epochs=2, batch_size=2, warmup=0, learning_rate=1e-3, checkpoint=path)
    assert error.value.fit.losses == good.losses[:2]
    assert all(np.isfinite(x).all() for x in parameters(error.value.fit.model).values())
    assert error.value.fit.model.encode("a").shape == (8,)
    assert path.exists()


def test_parameters_that_stay_as_they_are_are_named(
    small: SentenceTransformer, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Batches.__call__

    def without(self: Any, *args: Any, **kwargs: Any) -> Any:
        found = original(self, *args, **kwargs)
        del found.gradients["model/encoder.layer.0.output.dense.bias"]
        return found

    monkeypatch.setattr(Batches, "__call__", without)
    with pytest.warns(UserWarning, match=r"1 parameters have no gradient.*layer\.0\.output\.dense\.bias"):
        fit(small, PAIRS)


def test_every_loss_of_vectors_trains(small: SentenceTransformer) -> None:
    scored = [(a, b, i / 6) for i, (a, b) in enumerate(PAIRS)]
    classes = [(a, b, i % 3) for i, (a, b) in enumerate(PAIRS)]
    triplets = [(a, b, "no") for a, b in PAIRS]
    for name, data in {
        "MultipleNegativesRankingLoss": triplets, "CosineSimilarityLoss": scored, "CoSENTLoss": scored,
        "TripletLoss": triplets, "SoftmaxLoss": classes,
    }.items():  # fmt: skip
        found = fit(small, data, name, epochs=30, learning_rate=2e-3, dropout=0)
        assert found.losses[-1] < found.losses[0], name


@pytest.mark.parametrize("labels", [1, 3])
@pytest.mark.parametrize("kind", [CrossEncoder, TextClassifier])
def test_cross_encoders_and_classifiers_train(kind: Any, labels: int, random_params: Any, tokenizer: Any) -> None:
    made = network(random_params, models.BertForSequenceClassification, num_labels=labels)
    model = kind(modules=[Transformer(made, tokenizer)])
    rows = [(a, b, i % labels if labels > 1 else i % 2) for i, (a, b) in enumerate(PAIRS)]
    data = rows if kind is CrossEncoder else [(a, label) for a, _, label in rows]
    found = fit(model, data, epochs=60, learning_rate=5e-3, evaluation=data, dropout=0)
    assert found.losses[-1] < 0.5 * found.losses[0]
    main = "spearman" if labels == 1 else "accuracy"
    assert found.history[-1][main] > found.history[0][main]
    assert type(found.model) is kind


def test_the_dropout_of_the_config_is_taken(tmp_path: Path, small: SentenceTransformer, tokenizer: Any) -> None:
    small.transformer.model.save_pretrained(tmp_path / "model")
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    for given, expected in (({}, (0.1, 0.1)), ({"hidden_dropout_prob": 0.3}, (0.3, 0.1))):
        (tmp_path / "model" / "config.json").write_text(json.dumps(config | given))
        loaded = models.BertModel.from_pretrained(tmp_path / "model")
        model = SentenceTransformer(modules=[Transformer(loaded, tokenizer), Pooling()])
        assert Trainee(model).dropout_rates() == expected
    (tmp_path / "model" / "config.json").write_text(json.dumps(config | {"hidden_dropout_prob": 1}))
    model = SentenceTransformer(
        modules=[Transformer(models.BertModel.from_pretrained(tmp_path / "model"), tokenizer), Pooling()]
    )
    with pytest.raises(ValueError, match="hidden_dropout_prob must be a number of at least 0 and below 1, got 1"):
        fit(model, PAIRS)


# ---- data ------------------------------------------------------------------------------------------------------------


def test_rows_of_every_kind(tmp_path: Path) -> None:
    expected = Examples((("a", "c"), ("b", "d")), (0.5, 1))
    (tmp_path / "x.jsonl").write_text('{"sentence1": "a", "sentence2": "b", "score": 0.5}\n\n["c", "d", 1]\n'.replace(
        '["c", "d", 1]', '{"sentence1": "c", "sentence2": "d", "score": 1}'))  # fmt: skip
    (tmp_path / "lists.ndjson").write_text('["a", "b", 0.5]\n["c", "d", 1]')
    (tmp_path / "x.csv").write_text('\ufefffirst,second,label\r\n"a",b,0.5\r\nc,d,1\r\n')
    (tmp_path / "x.tsv").write_text("score\tone\tother\n0.5\ta\tb\n1\tc\td\n")
    for name in ("x.jsonl", "lists.ndjson", "x.csv", "x.tsv"):
        assert read_examples(tmp_path / name) == expected, name
    assert read_examples(iter([("a", "b", 0.5), ["c", "d", 1]])) == expected
    assert read_examples([{"q": "a", "Label": 0.5, "p": "b"}, {"q": "c", "Label": 1, "p": "d"}]) == expected
    assert read_examples([("a", "b")]).labels is None


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.jsonl", '["a", "b"]\n["c", "d', r"x\.jsonl, line 2: not JSON .*; the file ends there"),
        ("x.jsonl", '["a", "b"]\n["c"]\n', r"line 2: has the columns text 1, but the first row has text 1, text 2"),
        ("x.jsonl", '["a", "b", 1]\n["c", "d"]\n', r"line 2: has the columns text 1, text 2, but the first row has"),
        ("x.jsonl", '{"a": "x", "b": 3}\n', r"line 1, b: expected a string, got int"),
        ("x.jsonl", "3\n", r"line 1: expected texts by name or in a sequence, got int 3"),
        ("x.jsonl", '{"a": "x", "label": 1, "score": 2}\n', r"line 1: expected texts and at most one label"),
        ("x.jsonl", "", r"x\.jsonl has no rows of texts"),
        ("x.csv", "a,b\nx\n", r"x\.csv, line 2: 1 fields, but the first line names 2"),
        ("x.csv", 'a,b\n"x,y\n', r"x\.csv, line 2: unexpected end of data"),
        ("x.csv", "a,a\nx,y\n", r"the first line must name the columns, each once, found a, a"),
        ("x.txt", "a\n", r"x\.txt: cannot tell what it holds; end its name in \.jsonl"),
        ("x.csv", b"a,b\n\xff,y\n", r"x\.csv: not UTF-8"),
    ],
)
def test_a_bad_file_is_named_with_its_line(name: str, content: Any, message: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises((ValueError, TypeError), match=message):
        read_examples(path)


def test_rows_with_an_empty_side_are_left_out_and_counted() -> None:
    with pytest.warns(UserWarning, match=r"2 of 4 rows have an empty text and are left out, first data, row 1"):
        found = read_examples([("a", "b"), ("a", ""), ("  ", "b"), ("c", "d")])
    assert found.columns == (("a", "c"), ("b", "d"))
    with pytest.raises(ValueError, match="no rows of texts"), pytest.warns(UserWarning):
        read_examples([("", "")])


def test_one_pair_alone_has_no_negatives(small: SentenceTransformer) -> None:
    for data, settings in ((PAIRS[:1], {}), (PAIRS, {"batch_size": 1})):
        with pytest.raises(ValueError, match="compares rows with each other, so that a batch needs 2 of them"):
            fit(small, data, **settings)
    assert len(fit(small, [(*pair, "no") for pair in PAIRS[:1]]).losses) == 1  # a negative of its own
    assert len(fit(small, PAIRS, batch_size=6).losses) == 2  # seven rows are shared out, not left over


@pytest.mark.parametrize(
    ("loss", "label", "message"),
    [
        ("CosineSimilarityLoss", 4.5, r"the label of row 1 is 4\.5, expected a number from -1 to 1 .*divided by 5"),
        ("CosineSimilarityLoss", float("nan"), "the label of row 1 is nan"),
        ("CosineSimilarityLoss", None, "the label of row 1 is None"),
        ("CoSENTLoss", "high", "a string|the first row has"),
        ("SoftmaxLoss", -1, "the label of row 1 is -1, expected an integer from 0 to"),
        ("SoftmaxLoss", 0.5, r"the label of row 1 is 0\.5, expected an integer"),
        ("MultipleNegativesRankingLoss", 1, "takes no labels; the data has some"),
        ("TripletLoss", 1, "TripletLoss takes 3 columns of texts, the data has 2"),
        ("CrossEntropyLoss", 1, "does not go with a SentenceTransformer"),
        ("NoSuchLoss", 1, "loss 'NoSuchLoss' is unknown; known: MultipleNegativesRankingLoss"),
    ],
)
def test_labels_out_of_range_are_named(loss: str, label: Any, message: str, small: SentenceTransformer) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        fit(small, [("a", "b", 0), ("c", "d", label)], loss)


def test_losses_and_models_that_do_not_go_together(
    small: SentenceTransformer, random_params: Any, tokenizer: Any
) -> None:
    made = network(random_params, models.BertForSequenceClassification, num_labels=3)
    cross = CrossEncoder(modules=[Transformer(made, tokenizer)])
    with pytest.raises(ValueError, match="MultipleNegativesRankingLoss takes vectors, but a CrossEncoder gives logits"):
        fit(cross, PAIRS, "MultipleNegativesRankingLoss")
    with pytest.raises(ValueError, match="CrossEntropyLoss: the label of row 0 is 3, expected an integer from 0 to 2"):
        fit(cross, [("a", "b", 3)])
    with pytest.raises(ValueError, match="CrossEntropyLoss needs labels"):
        fit(cross, PAIRS)
    with pytest.raises(TypeError, match="expected a SentenceTransformer or a CrossEncoder, got BertModel"):
        Trainee(small.transformer.model)  # type: ignore[arg-type]
    for name in ("epochs", "batch_size", "evaluations"):
        with pytest.raises(ValueError, match=f"{name} must be an integer of at least 1, got 0"):
            fit(small, PAIRS, **{name: 0})
    with pytest.raises(ValueError, match="dropout must be at least 0 and below 1"):
        fit(small, PAIRS, dropout=1.0)


def test_the_default_loss(small: SentenceTransformer, random_params: Any, tokenizer: Any) -> None:
    def chosen(model: Any, rows: Any) -> str:
        return type(make_loss(None, model, read_examples(rows))).__name__

    def cross(**settings: Any) -> CrossEncoder:
        made = network(random_params, models.BertForSequenceClassification, **settings)
        return CrossEncoder(modules=[Transformer(made, tokenizer)])

    assert chosen(small, PAIRS) == "MultipleNegativesRankingLoss"
    assert chosen(small, [("a", "b", 0.5)]) == "CoSENTLoss"
    assert chosen(cross(num_labels=1), [("a", "b", 1)]) == "BinaryCrossEntropyLoss"
    assert chosen(cross(num_labels=3), [("a", "b", 1)]) == "CrossEntropyLoss"
    assert chosen(cross(num_labels=1, problem_type="regression"), [("a", "b", 7.5)]) == "MSELoss"


# ---- evaluation ------------------------------------------------------------------------------------------------------


def test_ranks_and_correlations() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 5, 40).astype(float), rng.normal(size=40)
    expected = [1 + np.sum(x < value) + (np.sum(x == value) - 1) / 2 for value in x]
    np.testing.assert_allclose(ranks(x), expected)
    assert pearson(x, y) == pytest.approx(np.corrcoef(x, y)[0, 1])
    assert np.isnan(pearson(np.ones(3), np.arange(3.0)))


def test_retrieval_is_measured(small: SentenceTransformer, monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = {"q0": [1, 0], "q1": [0, 1], "q2": [1, 0.1], "d0": [1, 0], "d1": [1, 1], "d2": [0, 1]}
    monkeypatch.setattr(
        SentenceTransformer, "encode", lambda self, texts, **_: np.array([vectors[text] for text in texts], np.float32)
    )
    found = evaluate(small, read_examples([("q0", "d0"), ("q1", "d1"), ("q2", "d2")]))
    assert found == {
        "mrr@10": pytest.approx((1 + 1 / 2 + 1 / 3) / 3),
        "accuracy@1": pytest.approx(1 / 3),
        "accuracy@10": 1,
    }
    same = evaluate(small, read_examples([("q0", "d0"), ("q2", "d0")]))  # one answer to both is no mistake
    assert same["accuracy@1"] == 1


# ---- the command line ------------------------------------------------------------------------------------------------


def test_finetune_on_the_command_line(small: SentenceTransformer, tmp_path: Path) -> None:
    small.save_pretrained(tmp_path / "base")
    data = tmp_path / "pairs.jsonl"
    data.write_text("".join(json.dumps(pair) + "\n" for pair in PAIRS))
    new = tmp_path / "new" / "model"
    command = ["finetune", str(data), "-o", str(new), "--model", str(tmp_path / "base"), "--batch-size", "3"]
    done = CliRunner().invoke(main, [*command, "--eval", str(data), "--epochs", "2", "--threads", "2"])
    assert done.exit_code == 0, done.output
    lines = [line for line in done.stdout.splitlines() if line.startswith("step")]
    assert [line.split()[1] for line in lines] == ["0", "3", "6"]
    assert "mrr@10" in lines[0] and "loss" in lines[1]
    assert [path.name for path in new.parent.iterdir()] == ["model"]  # and no checkpoint is left
    expected = fit(small, PAIRS, batch_size=3, epochs=2, evaluation=PAIRS, threads=2).model
    loaded = SentenceTransformer(new)
    assert_equal(parameters(loaded), parameters(expected))
    plain = CliRunner().invoke(main, command)
    assert plain.exit_code == 0 and "3 steps, loss" in plain.stdout


def test_finetune_goes_on_after_an_interruption(
    small: SentenceTransformer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small.save_pretrained(tmp_path / "base")
    data = tmp_path / "pairs.jsonl"
    data.write_text("".join(json.dumps(pair) + "\n" for pair in PAIRS))
    command = [
        "finetune",
        str(data),
        "-o",
        str(tmp_path / "out"),
        "--model",
        str(tmp_path / "base"),
        "--batch-size",
        "2",
    ]
    original, steps = fitting._Run._step, []

    def interrupted(self: Any, step: int) -> None:
        steps.append(step)
        if len(steps) == 2:
            os.kill(os.getpid(), signal.SIGINT)
        original(self, step)

    monkeypatch.setattr(fitting._Run, "_step", interrupted)
    stopped = CliRunner().invoke(main, command)
    assert stopped.exit_code == 130
    assert "The same command goes on from" in stopped.stderr
    assert (tmp_path / "out.checkpoint").exists() and not (tmp_path / "out").exists()
    assert CliRunner().invoke(main, command).exit_code == 0
    assert steps == [0, 1, 2]
    assert not (tmp_path / "out.checkpoint").exists()
    bad = CliRunner().invoke(main, [*command, "--loss", "TripletLoss"])
    assert bad.exit_code == 1 and "TripletLoss takes 3 columns of texts, the data has 2" in bad.stderr
