"""Gradients, losses and AdamW, live against ``torch.autograd``, sentence-transformers' losses, PyTorch's AdamW."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import numpy as np
import pytest
from test_against_transformers import random_torch_model

from minilm import BertConfig, bert, heads
from minilm.inspection.backward import measure_backward
from minilm.packing import Tokens, make_pack
from minilm.parameters import flatten, unflatten
from minilm.training import losses
from minilm.training.gradients import Rows
from minilm.training.optimizer import AdamW, linear_schedule
from minilm.training.tape import Tape

pytestmark = pytest.mark.parity

ROWS = 3  # of the batch
SEEDS = range(30)


def ours_of(theirs: Any) -> tuple[dict[str, Any], BertConfig]:
    """The parameters and the config of a model of transformers."""
    config = BertConfig.from_dict({**theirs.config.to_dict(), "num_labels": theirs.config.num_labels})
    named = {name: parameter.detach().numpy() for name, parameter in theirs.named_parameters()}
    return unflatten(named), config


def texts(config: BertConfig, count: int, seed: int) -> list[Tokens]:
    """Random texts, longest first. None has the id 0: PyTorch gives that row, [PAD], no gradient on principle."""
    rng = np.random.default_rng(seed)
    lengths = np.sort(rng.integers(1, config.max_position_embeddings + 1, count))[::-1]
    return [
        Tokens(rng.integers(1, config.vocab_size, n), np.sort(rng.integers(0, config.type_vocab_size, n)))
        for n in lengths
    ]


def padded(batch: list[Tokens]) -> dict[str, np.ndarray]:
    width = max(len(text.input_ids) for text in batch)
    fill = lambda x: np.pad(x, (0, width - len(x)))  # noqa: E731
    return {
        "input_ids": np.stack([fill(text.input_ids) for text in batch]),
        "token_type_ids": np.stack([fill(text.token_type_ids) for text in batch]),
        "attention_mask": np.stack([fill(np.ones_like(text.input_ids)) for text in batch]),
    }


def states(params: Any, config: BertConfig, batch: list[Tokens], layout: str, tape: Tape) -> tuple[Any, Callable]:
    """The last hidden states of a layout, and what pools them to means: [texts, hidden]."""
    if layout == "padded":
        inputs = padded(batch)
        mask = inputs["attention_mask"]
        positions = np.tile(np.arange(mask.shape[1]), (len(batch), 1))
        attention = bert.padded_attention(mask, config.num_attention_heads, tape)
        *_, (last, _) = bert.bert(
            params, inputs["input_ids"], inputs["token_type_ids"], positions, attention, config, tape
        )
        return last, lambda: tape.pooling(last, mask, "mean")
    pack = make_pack(range(len(batch)), batch)
    attention = bert.packed_attention(pack.runs, config.num_attention_heads, tape)
    *_, (last, _) = bert.bert(params, pack.input_ids, pack.token_type_ids, pack.position_ids, attention, config, tape)
    ones = [np.ones((run.texts, run.tokens), np.int64) for run in pack.runs]
    return last, lambda: tape.namespace.concat(
        [tape.pooling(run.of(last), mask, "mean") for run, mask in zip(pack.runs, ones, strict=True)]
    )


def assert_gradients(gradients: Any, params: Any, theirs: Any, tolerance: float = 1e-10) -> None:
    expected = {name: parameter.grad for name, parameter in theirs.named_parameters()}
    scale = max(float(g.abs().max()) for g in expected.values() if g is not None)
    compared = 0
    for name, parameter in flatten(params):
        if expected[name] is None:
            assert parameter not in gradients, name
            continue
        got = gradients[parameter]
        got = got.dense() if isinstance(got, Rows) else got
        want = expected[name].numpy()
        # a bias of keys has the gradient 0, and rounding of its parts instead
        error = np.max(np.abs(got - want)) / max(np.max(np.abs(want)), 1e-4 * scale)
        assert error <= tolerance, f"{name}: {error:.1e}"
        compared += 1
    assert compared > 10


def sentence_losses(width: int, seed: int) -> dict[str, tuple[losses.Loss, int, Any, Callable]]:
    """Each loss of ours, its columns, its labels, and sentence-transformers' as a function of vectors and labels."""
    import torch
    from sentence_transformers.sentence_transformer import losses as theirs

    model, rng = torch.nn.Module(), np.random.default_rng(seed)
    triplet = theirs.TripletDistanceMetric
    softmax = losses.SoftmaxLoss(width, 4, seed)
    softmax.params = {name: x.astype(np.float64) for name, x in softmax.params.items()}

    def their_softmax(vectors: list[Any], labels: Any) -> Any:
        classifier = theirs.SoftmaxLoss(FakeModel(), width, 4).double()
        with torch.no_grad():
            classifier.classifier.weight.copy_(torch.from_numpy(softmax.params["weight"]))
            classifier.classifier.bias.copy_(torch.from_numpy(softmax.params["bias"]))
        u, v = vectors
        return classifier.loss_fct(classifier.classifier(torch.cat([u, v, (u - v).abs()], 1)), labels)

    class FakeModel(torch.nn.Module):
        device = "cpu"

    def named(loss: Any) -> Callable:
        return loss.compute_loss_from_embeddings

    scores = rng.integers(0, 3, ROWS) / 2
    return {
        "MNRL": (losses.MultipleNegativesRankingLoss(), 2, None, named(theirs.MultipleNegativesRankingLoss(model))),
        "MNRL, hard negatives": (
            losses.MultipleNegativesRankingLoss(scale=5),
            4,
            None,
            named(theirs.MultipleNegativesRankingLoss(model, scale=5)),
        ),
        "cosine": (losses.CosineSimilarityLoss(), 2, scores, named(theirs.CosineSimilarityLoss(model))),
        "CoSENT": (losses.CoSENTLoss(), 2, scores, named(theirs.CoSENTLoss(model))),
        **{
            f"triplet, {name}": (
                losses.TripletLoss(name, margin),
                3,
                None,
                named(theirs.TripletLoss(model, getattr(triplet, name.upper()), margin)),
            )
            for name, margin in (("euclidean", 5.0), ("cosine", 0.05), ("manhattan", 1.0))
        },
        "softmax": (softmax, 2, rng.integers(0, 4, ROWS), their_softmax),
    }


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("seed", SEEDS)
def test_every_parameter_of_random_models_under_each_loss_of_vectors(seed: int) -> None:
    import torch

    theirs = random_torch_model("BertModel", seed).double()
    params, config = ours_of(theirs)
    del params["pooler"]
    for name, (loss, columns, labels, their_loss) in sentence_losses(config.hidden_size, seed).items():
        batch = texts(config, columns * ROWS, seed)
        encoded = padded(batch)
        theirs.zero_grad()
        output = theirs(**{key: torch.from_numpy(x) for key, x in encoded.items()}).last_hidden_state
        mask = torch.from_numpy(encoded["attention_mask"])[:, :, None].double()
        vectors = (output * mask).sum(1) / mask.sum(1)
        expected = their_loss(list(vectors.split(ROWS)), None if labels is None else torch.from_numpy(labels))
        expected.backward()
        for layout in ("padded", "packed"):
            tape = Tape()
            _, pool = states(params, config, batch, layout, tape)
            pooled = pool()
            parts = [pooled.value[i : i + ROWS] for i in range(0, len(batch), ROWS)]
            got = loss(parts, labels)
            assert got.loss == pytest.approx(expected.item(), rel=1e-10, abs=1e-12), name
            if float(expected) == 0:  # nothing to learn
                continue
            gradients = tape.backward(pooled, np.concatenate(got.gradients))
            assert_gradients(gradients, params, theirs)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("kind", ["BertForSequenceClassification", "BertForMaskedLM"])
def test_every_parameter_of_random_models_under_each_loss_of_logits(kind: str, seed: int) -> None:
    import torch

    labels = 4 if seed % 3 else 1
    theirs = random_torch_model(kind, seed, num_labels=labels, tie_word_embeddings=seed % 2 == 0).double()
    params, config = ours_of(theirs)
    batch, rng = texts(config, ROWS, seed), np.random.default_rng(seed)
    encoded = padded(batch)
    logits = theirs(**{key: torch.from_numpy(x) for key, x in encoded.items()}).logits
    kept = encoded["attention_mask"] == 1
    if kind == "BertForMaskedLM":
        loss: losses.Loss = losses.MaskedLanguageModelLoss()
        target = np.where(kept & (rng.random(kept.shape) < 0.5), rng.integers(0, config.vocab_size, kept.shape), -100)
        target[0, 0] = 3
        expected = torch.nn.functional.cross_entropy(logits.flatten(0, 1), torch.from_numpy(target).flatten())
    elif labels > 1:
        loss, target = losses.CrossEntropyLoss(4), rng.integers(0, 4, ROWS)
        expected = torch.nn.functional.cross_entropy(logits, torch.from_numpy(target))
    else:
        loss = losses.BinaryCrossEntropyLoss() if seed % 2 else losses.MSELoss()
        target = rng.random(ROWS)
        function = torch.nn.functional.binary_cross_entropy_with_logits if seed % 2 else torch.nn.functional.mse_loss
        expected = function(logits[:, 0], torch.from_numpy(target))
    expected.backward()
    for layout in ("padded", "packed"):
        tape = Tape()
        last, _ = states(params["bert"], config, batch, layout, tape)
        if kind == "BertForMaskedLM":
            predictions = params["cls"]["predictions"]
            words = params["bert"]["embeddings"]["word_embeddings"]["weight"]
            output = heads.masked_lm(predictions, last, words, config, tape)
            given = target if layout == "padded" else target[kept]
        else:
            firsts = last[:, None, :] if layout == "padded" else None
            if layout == "packed":
                starts = np.cumsum([0, *(len(text.input_ids) for text in batch[:-1])])
                firsts = tape.namespace.take(last, starts)[:, None, :]
            pooled = heads.pooler(params["bert"]["pooler"], last if layout == "padded" else firsts, tape)
            output, given = tape.linear(pooled, **params["classifier"]), target
        got = loss([output.value], given)
        assert got.loss == pytest.approx(expected.item(), rel=1e-10)
        assert_gradients(tape.backward(output, got.gradients[0]), params, theirs)


def test_the_softmax_losss_own_parameters() -> None:
    import torch

    rng = np.random.default_rng(0)
    loss, u, v = losses.SoftmaxLoss(6, 3), rng.normal(size=(5, 6)), rng.normal(size=(5, 6))
    labels = rng.integers(0, 3, 5)
    loss.params = {name: x.astype(np.float64) for name, x in loss.params.items()}
    weight, bias = (torch.from_numpy(loss.params[name]).requires_grad_() for name in ("weight", "bias"))
    features = torch.from_numpy(np.concatenate([u, v, np.abs(u - v)], axis=1))
    torch.nn.functional.cross_entropy(features @ weight.T + bias, torch.from_numpy(labels)).backward()
    found = loss([u, v], labels).params
    np.testing.assert_allclose(found["weight"], weight.grad.numpy(), rtol=0, atol=1e-14)
    np.testing.assert_allclose(found["bias"], bias.grad.numpy(), rtol=0, atol=1e-14)


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_ten_steps_of_adamw(weight_decay: float) -> None:
    import torch
    from transformers import get_linear_schedule_with_warmup

    rng = np.random.default_rng(1)
    shapes = {"dense.weight": (5, 4), "dense.bias": (5,), "LayerNorm.weight": (4,), "word_embeddings.weight": (9, 4)}
    params = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    tensors = {name: torch.nn.Parameter(torch.tensor(x)) for name, x in params.items()}
    plain = [tensors[name] for name in ("dense.bias", "LayerNorm.weight")]
    decayed = [tensors[name] for name in ("dense.weight", "word_embeddings.weight")]
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0.0}]
    theirs = torch.optim.AdamW(groups, lr=0.01)
    schedule = get_linear_schedule_with_warmup(theirs, 3, 12)
    ours, factor = AdamW(params, weight_decay=weight_decay, threads=2), linear_schedule(12, 3)
    for step in range(12):
        ids = rng.integers(0, 9, 3)  # some rows of the table, one perhaps twice
        gradients: dict[str, Any] = {
            name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items() if len(shape) == 1
        }
        gradients["dense.weight"] = rng.normal(size=(5, 4)).astype(np.float32)
        gradients["word_embeddings.weight"] = Rows(ids, rng.normal(size=(3, 4)).astype(np.float32), (9, 4))
        if step == 8:  # a dense gradient of the table from here on
            gradients["word_embeddings.weight"] = gradients["word_embeddings.weight"].dense()
        for name, tensor in tensors.items():
            g = gradients[name]
            tensor.grad = torch.tensor(g.dense() if isinstance(g, Rows) else g)
        norm = torch.nn.utils.clip_grad_norm_(tensors.values(), 2.0)
        theirs.step()
        schedule.step()
        assert ours.step(gradients, 0.01 * factor(step), max_norm=2.0) == pytest.approx(float(norm), rel=1e-5)
        for name, x in params.items():
            np.testing.assert_allclose(x, tensors[name].detach().numpy(), rtol=0, atol=1e-6, err_msg=f"{name}, {step}")


def test_the_real_checkpoint_in_float32_is_as_near_to_float64_as_torchs(model_dir: Path) -> None:
    """32 pairs of texts of all lengths; our distance from float64 is at most 1.5 times PyTorch's own."""
    words = " ".join(topics[name] for name in sorted(topics)).split()
    rng = np.random.default_rng(0)

    def text() -> str:
        start = rng.integers(0, len(words) - 200)
        return " ".join(words[start : start + rng.integers(3, 30)])

    found = measure_backward(model_dir, [text() for _ in range(64)])
    distance = {
        column: math.sqrt(sum(row.differences[column].relative ** 2 for row in found.sublayers))
        for column in ("ours", "torch")
    }
    assert distance["ours"] <= 1.5 * distance["torch"]
    assert found.first_wrong("ours") is None and found.first_wrong("torch") is None
    assert len(found.sublayers) == 101 - 6  # of all but the pooler's, those that have a gradient
    for row in found.sublayers:
        assert row.differences["ours"].relative <= 3 * row.differences["torch"].relative, row.name
