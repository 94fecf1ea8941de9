"""The families without PyTorch: their files, positions, token types, shared layers, and what is refused."""

from __future__ import annotations

import json
import math
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from golden.record import FAMILY_HEADS, FAMILY_SIZES, family_batch
from safetensors.numpy import load_file, save_file

import minilm
from minilm import models
from minilm.backends import get_backend
from minilm.config import BertConfig
from minilm.functional import attention, extended_attention_mask
from minilm.loading.families import FAMILIES, config_from_dict
from minilm.models.checks import text_positions
from minilm.models.relative_attention import buckets, relative_attention_bias
from minilm.packing import Tokens, make_pack
from minilm.parameters import flatten, unflatten
from minilm.sentences.modules import Pooling, Transformer
from minilm.tokenizing.files import word_piece
from minilm.tokenizing.tokenizer import Tokenizer
from minilm.training.trainee import Trainee

BACKENDS = ["numpy", "numba"]
OTHERS = [family for family in FAMILIES if family != "bert"]
GOLDEN = Path(__file__).parents[1] / "golden" / "families.npz"


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    with np.load(GOLDEN) as arrays:
        return dict(arrays)


@pytest.fixture
def write(golden: dict[str, np.ndarray], tmp_path: Path) -> Callable[..., Path]:
    """A function that writes the recorded checkpoint of a family as transformers would, and returns the folder."""

    def write(family: str, kind: str, **config: Any) -> Path:
        values = {"model_type": family, **FAMILY_SIZES[family], "architectures": [FAMILIES[family].class_name + kind]}
        (tmp_path / "config.json").write_text(json.dumps({**values, **config}))
        shapes = json.loads(str(golden["shapes"]))[f"{family}/{kind}"]
        ends = np.cumsum([math.prod(shape) for shape in shapes.values()])[:-1]
        parts = np.split(golden[f"{family}/{kind}"].astype(np.float32) / 32, ends)
        tensors = {key: part.reshape(shape) for (key, shape), part in zip(shapes.items(), parts, strict=True)}
        save_file(tensors, tmp_path / "model.safetensors")
        return tmp_path

    return write


def packed(batch: dict[str, np.ndarray]) -> Any:
    kept = batch["attention_mask"] == 1
    texts = [Tokens(ids[mask], np.zeros(mask.sum(), int)) for ids, mask in zip(batch["input_ids"], kept, strict=True)]
    return make_pack(range(len(texts)), texts)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("kind", FAMILY_HEADS)
@pytest.mark.parametrize("family", OTHERS)
def test_recorded_models(family: str, kind: str, backend: str, golden: dict[str, np.ndarray], write: Any) -> None:
    """What transformers computed, in both layouts, and after a pickle: labels are counted in the checkpoint."""
    expected = golden[f"{family}/{kind}/output"]
    batch = family_batch(family)
    kept = batch["attention_mask"] == 1
    auto = getattr(minilm, "AutoModel" if kind == "Model" else f"AutoModel{kind}")
    model = auto.from_pretrained(write(family, kind), backend=backend)
    for loaded in (model, pickle.loads(pickle.dumps(model)), model.with_operations(model.backend.operations)):
        np.testing.assert_allclose(loaded(**batch)[0], expected, rtol=0, atol=1e-5)
        rows = model.backend.to_numpy(loaded.forward_packed(packed(batch)))
        wanted = expected if kind == "ForSequenceClassification" else expected[kept]
        np.testing.assert_allclose(rows, wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize("family", OTHERS)
def test_names_of_transformers(family: str) -> None:
    for kind in FAMILY_HEADS:
        name = FAMILIES[family].class_name + kind
        assert getattr(minilm, name) is getattr(models, name) is getattr(models, f"Bert{kind}")


@pytest.mark.parametrize("family", OTHERS)
def test_a_key_that_is_missing_or_left_over_is_named(family: str, write: Any) -> None:
    folder = write(family, "Model")
    tensors = load_file(folder / "model.safetensors")
    for key in tensors:
        if "pooler" not in key:
            save_file({name: x for name, x in tensors.items() if name != key}, folder / "model.safetensors")
            anchor = "word_embeddings" in key
            with pytest.raises(ValueError, match="must have one key" if anchor else rf"1 missing: {key}$"):
                minilm.AutoModel.from_pretrained(folder)
    save_file({**tensors, "encoder.layer.9.dense.weight": np.ones(2, np.float32)}, folder / "model.safetensors")
    with pytest.raises(ValueError, match=r"1 unexpected: encoder\.layer\.9\.dense\.weight"):
        minilm.AutoModel.from_pretrained(folder)


@pytest.mark.parametrize("family", OTHERS)
def test_heads_beside_the_encoder_are_known(family: str, write: Any) -> None:
    """The encoder of a checkpoint with any head loads, and a head that is not there is an error."""
    for kind in FAMILY_HEADS[1:]:
        assert minilm.AutoModel.from_pretrained(write(family, kind))(np.array([[5, 6]]))[0].shape == (1, 2, 12)
    folder = write(family, "Model")
    for kind in FAMILY_HEADS[2:]:
        with pytest.raises(ValueError, match="no classifier of this kind"):
            getattr(minilm, f"AutoModel{kind}").from_pretrained(folder)
    with pytest.raises(ValueError, match="missing"):
        minilm.AutoModelForMaskedLM.from_pretrained(folder)


def test_a_config_without_a_model_type_is_known_by_its_classes() -> None:
    for family in OTHERS:
        values = {"architectures": [FAMILIES[family].class_name + "ForMaskedLM"]}
        assert config_from_dict(values).model_type == family
    assert config_from_dict({}).model_type == "bert"


def test_values_that_replace_those_of_the_file_have_either_name() -> None:
    values = {"model_type": "distilbert", "dim": 24, "n_heads": 3, "n_layers": 2}
    assert config_from_dict(values, n_layers=5).num_hidden_layers == 5
    assert config_from_dict(values, num_hidden_layers=4, num_labels=3).num_hidden_layers == 4
    with pytest.raises(TypeError, match=r"unexpected argument 'num_lables'; .*num_labels"):
        config_from_dict(values, num_lables=3)


@pytest.mark.parity
@pytest.mark.parametrize("family", OTHERS)
def test_defaults_are_those_of_transformers(family: str) -> None:
    transformers = pytest.importorskip("transformers")
    theirs, ours = transformers.AutoConfig.for_model(family), config_from_dict({"model_type": family})
    names = ["vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "hidden_act"]
    names += ["max_position_embeddings", "type_vocab_size", "layer_norm_eps", "pad_token_id", "tie_word_embeddings"]
    names += ["embedding_size", "relative_attention_num_buckets", "num_hidden_groups", "inner_group_num"]
    settings = FAMILIES[family].settings
    for name in names:
        if hasattr(theirs, settings.get(name, name)):
            assert getattr(ours, name) == getattr(theirs, settings.get(name, name)), name


# ---- positions -------------------------------------------------------------------------------------------------------


def test_positions_start_after_the_padding() -> None:
    """Token 4 is padding here, and keeps position 4; two texts of 5 and 3 tokens lie end to end."""
    config = BertConfig(first_position=5)
    places = np.array([0, 1, 2, 3, 4, 0, 1, 2])
    ids = np.array([9, 4, 8, 4, 4, 4, 7, 7])
    np.testing.assert_array_equal(text_positions(ids, places, config), [5, 4, 6, 4, 4, 4, 5, 6])
    np.testing.assert_array_equal(text_positions(ids + 20, places, config), places + 5)
    np.testing.assert_array_equal(text_positions(ids, places, BertConfig()), places)


@pytest.mark.parametrize("family", ["roberta", "mpnet"])
def test_fewer_tokens_than_rows_of_positions(family: str, write: Any) -> None:
    model = minilm.AutoModel.from_pretrained(write(family, "Model"))
    assert (model.config.max_position_embeddings, model.config.max_tokens) == (13, 11)
    assert model(np.full((1, 11), 5))[0].shape == (1, 11, 12)
    with pytest.raises(ValueError, match="12 tokens, but the model has 11 positions"):
        model(np.full((1, 12), 5))
    with pytest.raises(ValueError, match="position_ids has 13, but its table has the rows 0 to 12"):
        model.forward_packed(make_pack([0], [Tokens(np.full(12, 5), np.zeros(12, int))]))
    given = model(np.array([[5, 6]]), position_ids=np.array([[2, 3]]))[0]
    np.testing.assert_array_equal(given, model(np.array([[5, 6]]))[0])


# ---- token types -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["distilbert", "mpnet"])
def test_families_without_token_types_ignore_them(family: str, write: Any) -> None:
    model = minilm.AutoModel.from_pretrained(write(family, "Model"))
    ids = np.array([[5, 6, 7]])
    expected = model(ids)[0]
    np.testing.assert_array_equal(model(ids, token_type_ids=np.array([[0, 1, 1]]))[0], expected)
    packed = model.forward_packed(make_pack([0], [Tokens(ids[0], np.array([0, 1, 9]))]))
    np.testing.assert_allclose(packed, expected[0], rtol=0, atol=1e-6)
    assert not np.any(dict(flatten(model.params))["embeddings.token_type_embeddings.weight"])


# ---- ALBERT's layers -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", BACKENDS)
def test_shared_layers_are_one_array(backend: str, write: Any) -> None:
    """Six layers in two groups of one: three layers share each array, also as the backend has placed it."""
    model = minilm.AutoModel.from_pretrained(write("albert", "Model"), backend=backend)
    for one in (model, pickle.loads(pickle.dumps(model)), model.with_operations(model.backend.operations)):
        arrays = [one.params["encoder"]["layer"][str(n)]["intermediate"]["dense"]["weight"] for n in range(6)]
        assert len({id(array) for array in arrays[:3]}) == len({id(array) for array in arrays[3:]}) == 1
        assert arrays[0] is not arrays[3]


def test_a_trace_names_every_layer_though_they_share_arrays(write: Any) -> None:
    model = minilm.AutoModel.from_pretrained(write("albert", "Model"))
    for _ in range(2):
        names = [operation.name for operation in minilm.trace(model, {"input_ids": np.array([[5, 6]])})]
        assert names[:2] == ["embeddings", "embeddings.projection"]
        assert [name for name in names if name.endswith("intermediate")] == [
            f"encoder.layer.{n}.intermediate" for n in range(6)
        ]


# ---- MPNet's bias ----------------------------------------------------------------------------------------------------


def test_buckets_by_their_definition() -> None:
    distances = np.arange(-600, 601)
    for distance, bucket in zip(distances.tolist(), buckets(distances, 32).tolist(), strict=True):
        size = abs(distance)
        far = 8 + int(math.log(max(size, 1) / 8) / math.log(128 / 8) * 8 + 1e-6)  # borders: 8, 16, 32, 64 are exact
        assert bucket == (16 if distance > 0 else 0) + (size if size < 8 else min(far, 15)), distance


@pytest.mark.parity
def test_buckets_are_those_of_transformers() -> None:
    torch = pytest.importorskip("torch")
    from transformers.models.mpnet.modeling_mpnet import MPNetEncoder

    distances = np.arange(-600, 601)
    expected = MPNetEncoder.relative_position_bucket(torch.from_numpy(distances), num_buckets=32)
    np.testing.assert_array_equal(buckets(distances, 32), expected.numpy())


@pytest.mark.parametrize("tokens", [1, 2, 7, 140])
def test_the_bias_of_each_pair_of_tokens(tokens: int) -> None:
    table = np.random.default_rng(0).normal(size=(32, 3)).astype(np.float32)
    bias = relative_attention_bias(table, tokens, get_backend("numpy"))
    assert bias.shape == (1, 3, tokens, tokens) and bias.dtype == np.float32
    distance = np.arange(tokens)[None, :] - np.arange(tokens)[:, None]  # key minus query
    np.testing.assert_array_equal(bias[0], table[buckets(distance, 32)].transpose(2, 0, 1))


@pytest.mark.parametrize("heads", [1, 2])
@pytest.mark.parametrize("tokens", [1, 5, 9])
@pytest.mark.parametrize("need_probabilities", [True, False])
def test_attention_with_a_number_for_every_score(heads: int, tokens: int, need_probabilities: bool) -> None:
    """Of all texts, of each text, and together with a mask; 32 numbers a head fill the kernels' tiles."""
    rng = np.random.default_rng(1)
    qkv = [rng.normal(size=(3, tokens, 32 * heads)).astype(np.float32) for _ in range(3)]
    bias = rng.normal(size=(1, heads, tokens, tokens)).astype(np.float32)
    mask = extended_attention_mask((np.arange(tokens) < np.array([[1], [tokens], [3]])).astype(int), np.float32)
    operations = get_backend("numba").operations
    for added in (bias, mask + bias, mask):
        context, probabilities = operations.attention(*qkv, heads, added, need_probabilities)
        expected, wanted = attention(*(x.astype(np.float64) for x in qkv), heads, added.astype(np.float64))
        np.testing.assert_allclose(context, expected, rtol=0, atol=1e-6)
        if need_probabilities:
            np.testing.assert_allclose(probabilities, wanted, rtol=0, atol=1e-6)


@pytest.mark.parametrize("family", OTHERS)
def test_training_is_refused_where_it_is_not_implemented(family: str, write: Any) -> None:
    """Parameters that are shared, that must stay zeros, or that no operation of the table takes."""
    model = minilm.AutoModel.from_pretrained(write(family, "Model"))
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{i}" for i in range(18))]
    tokenizer = Tokenizer(word_piece({piece: i for i, piece in enumerate(pieces)}))
    sentences = minilm.SentenceTransformer(modules=[Transformer(model, tokenizer), Pooling()])
    if family in ("albert", "distilbert", "mpnet"):
        with pytest.raises(ValueError, match=f"training is not implemented for model_type '{family}'"):
            Trainee(sentences)
    else:
        assert Trainee(sentences).params


# ---- from arrays -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", OTHERS)
def test_float64(family: str, write: Any) -> None:
    folder = write(family, "Model")
    dtypes = ("float32", "float64")
    single, double = (minilm.AutoModel.from_pretrained(folder, dtype=dtype, backend="numpy") for dtype in dtypes)
    batch = family_batch(family)
    assert double(**batch)[0].dtype == np.float64
    np.testing.assert_allclose(double(**batch)[0], single(**batch)[0], rtol=0, atol=1e-5)
    again = models.BertModel(unflatten(dict(flatten(single.params))), single.config, "numpy")
    np.testing.assert_array_equal(again(**batch)[0], single(**batch)[0])
