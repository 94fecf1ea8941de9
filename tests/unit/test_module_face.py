"""sentence-transformers' constructors, methods and attributes: each is there and acts, or is refused by name."""

from __future__ import annotations

import copy
import inspect
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import minilm
from minilm import CrossEncoder, SentenceTransformer, TextClassifier
from minilm.config import BertConfig
from minilm.functional import gelu, sigmoid, tanh
from minilm.models import BertForSequenceClassification, BertModel
from minilm.sentences.model_card import ModelCardData
from minilm.sentences.modules import Dense, Pooling, Transformer
from minilm.tokenizing.files import word_piece
from minilm.tokenizing.tokenizer import Tokenizer

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(chr(ord("a") + i) for i in range(26)), *"012345"]


@pytest.fixture
def tokenizer() -> Tokenizer:
    return Tokenizer(word_piece({word: i for i, word in enumerate(WORDS)}))


@pytest.fixture
def model(tiny_config: BertConfig, random_params: Callable[..., Any], tokenizer: Tokenizer) -> SentenceTransformer:
    network = BertModel(random_params(BertModel.shapes(tiny_config)), tiny_config)
    weight = np.random.default_rng(5).normal(size=(7, 12)).astype(np.float32)
    return SentenceTransformer(
        modules=[Transformer(network, tokenizer), Pooling(), Dense({"linear": {"weight": weight}})],
        truncation="silent",
    )


@pytest.fixture
def cross_encoder(tiny_config: BertConfig, random_params: Callable[..., Any], tokenizer: Tokenizer) -> CrossEncoder:
    config = BertConfig(**{**vars(tiny_config), "num_labels": 1})
    network = BertForSequenceClassification(random_params(BertForSequenceClassification.shapes(config)), config)
    return CrossEncoder(modules=[Transformer(network, tokenizer)], truncation="silent")


@pytest.fixture
def folder(model: SentenceTransformer, tmp_path: Path) -> Path:
    model.save_pretrained(tmp_path / "saved")
    return tmp_path / "saved"


# ---- everything that is public there ---------------------------------------------------------------------------------

# Arguments of theirs that are not here, by their methods, and why.
ARGUMENTS_LEFT_OUT = {
    ("encode", "kwargs"): "for modules with arguments of their own: an unknown one is a TypeError",
    ("encode_query", "kwargs"): "",
    ("encode_document", "kwargs"): "",
    ("predict", "kwargs"): "",
    ("preprocess", "kwargs"): "",
    ("tokenize", "kwargs"): "",
    ("forward", "kwargs"): "",
    ("to", "args"): "",
    ("to", "kwargs"): "",
}
OURS = {"SentenceTransformer": SentenceTransformer, "CrossEncoder": CrossEncoder}


@pytest.mark.parity
@pytest.mark.parametrize("name", OURS)
def test_every_public_name_is_there_or_refused(
    name: str, model: SentenceTransformer, cross_encoder: CrossEncoder
) -> None:
    theirs = getattr(pytest.importorskip("sentence_transformers"), name)
    ours = model if name == "SentenceTransformer" else cross_encoder
    public = [attribute for attribute in dir(theirs) if not attribute.startswith("_")]
    assert len(public) > 100
    refused = []
    for attribute in public:
        if not hasattr(type(ours), attribute):
            try:
                getattr(ours, attribute)
            except AttributeError as error:
                assert f"a {name} has no {attribute!r}: " in str(error), f"{attribute} is neither there nor refused"
                refused.append(attribute)
    assert len(public) - len(refused) > 40


@pytest.mark.parity
@pytest.mark.parametrize("name", OURS)
def test_every_argument_is_there(name: str) -> None:
    package = pytest.importorskip("sentence_transformers")
    torch = pytest.importorskip("torch")
    theirs, ours, seen = getattr(package, name), OURS[name], 0
    for attribute in ["__init__", *dir(theirs)]:
        inherited = getattr(torch.nn.Sequential, attribute, None) is getattr(theirs, attribute)
        if (attribute.startswith("_") and attribute != "__init__") or inherited or not hasattr(ours, attribute):
            continue
        function = getattr(theirs, attribute)
        if not inspect.isroutine(function):
            continue
        mine = inspect.signature(getattr(ours, attribute)).parameters
        for argument in inspect.signature(function).parameters:
            missing = argument not in mine and (attribute, argument) not in ARGUMENTS_LEFT_OUT
            assert not missing, f"{name}.{attribute} has no argument {argument}"
            seen += 1
    assert seen > 60


def test_a_name_that_nobody_has(model: SentenceTransformer) -> None:
    with pytest.raises(AttributeError, match="'SentenceTransformer' object has no attribute 'chess'"):
        model.chess  # type: ignore[attr-defined]  # noqa: B018
    assert not hasattr(model, "add_adapter") and hasattr(model, "half")
    with pytest.raises(TypeError, match="unexpected keyword argument 'chess'"):
        SentenceTransformer(modules=list(model), chess=1)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="unexpected keyword argument 'chess'"):
        model.encode("a", chess=1)


# ---- settings act, or raise ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["max_seq_lenght", "normalize", "device", "dtype", "config", "backend"])
def test_what_is_no_setting_cannot_be_set(name: str, model: SentenceTransformer, cross_encoder: CrossEncoder) -> None:
    for one in (model, cross_encoder):
        with pytest.raises(AttributeError, match=name):
            setattr(one, name, 1)
    with pytest.raises(AttributeError, match=r"can be set is .*default_prompt_name, max_seq_length, .*truncate_dim"):
        model.batch_size = 8  # type: ignore[attr-defined]


def test_a_class_of_one_s_own_has_attributes_of_its_own(model: SentenceTransformer) -> None:
    class Mine(SentenceTransformer):
        pass

    mine = Mine(modules=list(model))
    mine.note = "kept"  # type: ignore[attr-defined]
    assert mine.note == "kept"  # type: ignore[attr-defined]


def test_settings_act(model: SentenceTransformer) -> None:
    text = "a b c d e f"
    whole = model.encode(text)
    model.max_seq_length = np.int64(4)  # type: ignore[assignment]
    assert model.get_max_seq_length() == model[0].max_seq_length == 4
    np.testing.assert_allclose(model.encode(text), model.encode("a b"), atol=1e-6)
    model.max_seq_length = 11
    model.truncate_dim = 3
    np.testing.assert_array_equal(model.encode(text), whole[:3])
    model.truncate_dim = None
    with model.truncate_embeddings(2):
        assert model.get_sentence_embedding_dimension() == model.encode(text).size == 2
    with pytest.raises(RuntimeError), model.truncate_sentence_embeddings(2):
        raise RuntimeError
    assert model.get_embedding_dimension() == model.encode(text).size == 7
    model.prompts = {"q": "a b ", "none": None}  # type: ignore[dict-item]
    model.default_prompt_name = "q"
    np.testing.assert_allclose(model.encode("c d e f"), whole, atol=1e-6)
    with pytest.raises(ValueError, match="prompt name 'r' is unknown; known: 'q', 'none'"):
        model.default_prompt_name = "r"
    model.default_prompt_name = None
    np.testing.assert_allclose(model.encode("c d e f", prompt_name="none"), model.encode("c d e f"), atol=1e-6)
    model.set_pooling_include_prompt(False)
    assert np.abs(model.encode("c d e f", prompt="a b ") - whole).max() > 1e-3
    for bad in (0, 1.5, True):
        with pytest.raises(ValueError, match="threads must be an integer of at least 1"):
            model.threads = bad  # type: ignore[assignment]


def test_the_tokenizer_can_be_replaced(model: SentenceTransformer) -> None:
    before = model.encode("a b")
    model.tokenizer = Tokenizer(word_piece({word: i for i, word in enumerate([*WORDS[:5], *WORDS[:4:-1]])}))
    assert model.tokenizer is model.processor is model[0].tokenizer
    assert np.abs(model.encode("a b") - before).max() > 1e-3
    with pytest.raises(TypeError, match=r"must come from minilm\.AutoTokenizer"):
        model.tokenizer = "bert"  # type: ignore[assignment]


def test_settings_of_a_cross_encoder_act(cross_encoder: CrossEncoder) -> None:
    pair, cut = ("a", "b c d e"), ("a", "b c")
    whole = cross_encoder.predict(pair)
    cross_encoder.max_length = 6
    assert cross_encoder.max_length == cross_encoder.max_seq_length == cross_encoder[0].max_seq_length == 6
    np.testing.assert_allclose(cross_encoder.predict(pair), cross_encoder.predict(cut), atol=1e-6)
    cross_encoder.max_length = 11
    cross_encoder.activation_fn = lambda x: -x
    assert cross_encoder.predict(pair) < 0 < whole
    assert cross_encoder.default_activation_function is cross_encoder.activation_fn
    assert cross_encoder.get_default_activation_fn() is sigmoid
    with pytest.raises(TypeError, match="an activation must be a function of an array"):
        cross_encoder.activation_fn = "sigmoid"  # type: ignore[assignment]


@pytest.mark.parity
def test_modules_of_pytorch_are_activations(cross_encoder: CrossEncoder) -> None:
    torch = pytest.importorskip("torch")
    logit = cross_encoder.predict(("a", "b"), activation_fn=torch.nn.Identity())
    twins = [(torch.nn.Sigmoid(), sigmoid), (torch.nn.Tanh(), tanh), (torch.nn.GELU(), gelu)]
    for theirs, twin in twins:
        cross_encoder.activation_fn = theirs
        assert cross_encoder.activation_fn is twin
    for other in (torch.nn.Hardtanh(), torch.nn.GELU(approximate="tanh")):
        found = cross_encoder.predict(("a", "b"), activation_fn=other)
        np.testing.assert_allclose(found, other(torch.tensor(logit)), atol=1e-6)
    loaded = CrossEncoder(modules=list(cross_encoder), default_activation_function=torch.nn.Tanh())  # type: ignore[call-arg]
    assert loaded.activation_fn is tanh


# ---- as PyTorch sees it ----------------------------------------------------------------------------------------------


def test_place_and_dtype(model: SentenceTransformer, cross_encoder: CrossEncoder) -> None:
    for one in (model, cross_encoder):
        assert one.device == "cpu" and one.dtype == np.float32 and one.get_backend() == "numba"
        assert one.to("cpu").cpu().eval().float().train(False) is one  # type: ignore[attr-defined]
        for change in (one.half, one.bfloat16, one.double, one.cuda, one.train):
            with pytest.raises(ValueError, match=r"implemented|load it with|minilm\.fit"):
                change()
        with pytest.raises(ValueError, match="load it with device='cuda:0'"):
            one.to("cuda:0")


def test_modules_and_parameters(model: SentenceTransformer, cross_encoder: CrossEncoder) -> None:
    assert len(model) == 3 and [type(one).__name__ for one in model] == ["Transformer", "Pooling", "Dense"]
    assert model[-1] is model.steps[0] and dict(model.named_children())["1"] is model.pooling
    assert model.config is model[0].auto_model.config and model.transformers_model is model[0].model
    assert len(cross_encoder) == 1 and cross_encoder.model is cross_encoder[0].model
    assert cross_encoder.config.num_labels == 1
    sizes = {name: array.shape for name, array in model.named_parameters()}
    assert sizes["0.model.embeddings.word_embeddings.weight"] == (37, 12) and sizes["2.linear.weight"] == (7, 12)
    assert sum(array.size for array in model.parameters()) == sum(int(np.prod(shape)) for shape in sizes.values())
    assert model.modalities == ["text"] and model.supports("text") and not model.supports("image")
    assert model.is_singular_input("a") and not model.is_singular_input(["a"])
    assert cross_encoder.is_singular_input(("a", "b")) and not cross_encoder.is_singular_input([("a", "b")])


def test_a_call_on_a_padded_batch(model: SentenceTransformer, cross_encoder: CrossEncoder) -> None:
    features = model.preprocess(["a b c", "d"], prompt="e ")
    assert features["input_ids"].tolist() == model.tokenize(["e a b c", "e d"])["input_ids"].tolist()
    found = model(features)
    np.testing.assert_allclose(found["sentence_embedding"], model.encode(["e a b c", "e d"]), atol=1e-6)
    assert found["token_embeddings"].shape == (2, 6, 12) and model.forward(features).keys() == found.keys()
    pairs = cross_encoder.preprocess([("a", "b"), ("c", "d e")], prompt="f ")
    assert pairs["input_ids"].tolist() == cross_encoder.tokenize([("f a", "b"), ("f c", "d e")])["input_ids"].tolist()
    assert pairs["token_type_ids"][0].tolist() == [0, 0, 0, 0, 1, 1, 0]


def test_copies_and_pickles(model: SentenceTransformer, cross_encoder: CrossEncoder) -> None:
    for again in (copy.copy(model), copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        again.max_seq_length = 5
        assert model.max_seq_length == 11
        np.testing.assert_array_equal(again.encode("a b"), model.encode("a b"))
    np.testing.assert_array_equal(copy.deepcopy(cross_encoder).predict(("a", "b")), cross_encoder.predict(("a", "b")))


# ---- constructors ----------------------------------------------------------------------------------------------------


def test_arguments_that_change_nothing(folder: Path, model: SentenceTransformer) -> None:
    expected = model.encode("a b c")
    for arguments in (
        {"device": "cpu", "trust_remote_code": True, "token": False, "backend": "numba"},
        {"model_kwargs": {"torch_dtype": "float32", "attn_implementation": "sdpa", "device_map": "auto"}},
        {"model_kwargs": {"low_cpu_mem_usage": True, "dtype": np.float32}, "config_kwargs": {"hidden_dropout_prob": 0}},
        {"tokenizer_kwargs": {"use_fast": True}},
        {"processor_kwargs": {"padding_side": "left"}},
        {"model_card_data": ModelCardData(language="en")},
    ):
        np.testing.assert_array_equal(SentenceTransformer(folder, **arguments).encode("a b c"), expected)


def test_arguments_that_act(folder: Path) -> None:
    for arguments in (
        {"processor_kwargs": {"model_max_length": 5}},
        {"tokenizer_kwargs": {"model_max_length": 5}},
        {"tokenizer_args": {"model_max_length": 5}},
    ):
        assert SentenceTransformer(folder, **arguments).max_seq_length == 5
    assert SentenceTransformer(folder, config_kwargs={"layer_norm_eps": 0.5}).config.layer_norm_eps == 0.5
    assert SentenceTransformer(folder, model_kwargs={"hidden_act": "relu"}).config.hidden_act == "relu"
    assert SentenceTransformer(folder, model_kwargs={"torch_dtype": "float64"}).encode("a").dtype == np.float64
    assert (
        SentenceTransformer(folder, similarity_fn_name=minilm.util.SimilarityFunction.DOT_PRODUCT).similarity_fn_name
        == "dot"
    )
    with pytest.warns(FutureWarning, match="use_auth_token is an older name of token"):
        SentenceTransformer(folder, use_auth_token="secret")


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"model_kwargs": {"torch_dtype": "float16"}}, ValueError, "dtype 'float16' is not implemented"),
        ({"model_kwargs": {"attn_implementation": "flash_attention_2"}}, ValueError, "attn_implementation="),
        ({"model_kwargs": {"load_in_8bit": True}}, ValueError, "load_in_8bit=True is not implemented"),
        ({"model_kwargs": {"device_map": "cuda:3"}, "device": "cpu"}, ValueError, "device and device_map do not agree"),
        ({"model_kwargs": {"chess": 1}}, TypeError, "chess"),
        ({"model_kwargs": "float32"}, TypeError, "model_kwargs must be a dict of arguments by name, got str"),
        ({"processor_kwargs": {"chess": 1}}, TypeError, "'chess' is not a setting of a tokenizer"),
        ({"config_kwargs": {"chess": 1}}, TypeError, "chess"),
        ({"use_auth_token": "a", "token": "b"}, ValueError, "token and use_auth_token are both given"),
        ({"backend": "onnx"}, ValueError, "backend 'onnx' is unknown; known: numpy"),
        ({"chess": 1}, TypeError, "unexpected keyword argument 'chess'"),
    ],
)
def test_other_arguments_are_refused_by_name(
    arguments: dict[str, Any], error: type[Exception], message: str, folder: Path
) -> None:
    with pytest.raises(error, match=message):
        SentenceTransformer(folder, **arguments)


def test_arguments_for_a_name_are_refused_with_modules(model: SentenceTransformer) -> None:
    with pytest.raises(ValueError, match="model_kwargs: only for a model that is loaded by its name"):
        SentenceTransformer(modules=list(model), model_kwargs={"torch_dtype": "float32"})
    SentenceTransformer(modules=list(model), trust_remote_code=True)


# ---- saving and evaluation -------------------------------------------------------------------------------------------


def test_the_card_names_the_model_of_the_hub(tmp_path: Path, folder: Path) -> None:
    loaded = SentenceTransformer("all-MiniLM-L6-v2")
    data = loaded.model_card_data
    assert data.base_model == "sentence-transformers/all-MiniLM-L6-v2" and len(data.base_model_revision) == 40
    loaded.save_pretrained(tmp_path / "a")
    text = (tmp_path / "a" / "README.md").read_text(encoding="utf-8")
    assert "\nbase_model: sentence-transformers/all-MiniLM-L6-v2\n" in text
    mine = ModelCardData(base_model="me/brief")
    assert SentenceTransformer("all-MiniLM-L6-v2", model_card_data=mine).model_card_data.base_model == "me/brief"
    assert SentenceTransformer(folder).model_card_data.base_model is None


def test_the_card_says_what_is_known(model: SentenceTransformer, tmp_path: Path) -> None:
    data = ModelCardData(language="de", license="mit", model_name="Brief", model_id="me/brief", tags=["letters"])
    mine = SentenceTransformer(modules=list(model), model_card_data=data)
    assert mine.model_card_data is data

    def evaluator(one: Any, output_path: str | None) -> dict[str, float]:
        assert one is mine and Path(str(output_path)).is_dir()
        one.model_card_data.set_evaluation_metrics(evaluator, {"spearman": 0.51234}, epoch=1, step=2)
        return {"spearman": 0.51234}

    assert mine.evaluate(evaluator, tmp_path / "results") == {"spearman": 0.51234}
    mine.save(str(tmp_path / "a"))
    text = (tmp_path / "a" / "README.md").read_text(encoding="utf-8")
    for line in (
        "language:\n- de\n",
        "\n- letters\n",
        "license: mit",
        "# Brief",
        '"me/brief"',
        "| spearman | 0.5123 |",
    ):
        assert line in text
    mine.save_pretrained(tmp_path / "b", model_name="you/brief")
    assert '"you/brief"' in (tmp_path / "b" / "README.md").read_text(encoding="utf-8")
    mine.save_pretrained(tmp_path / "c", create_model_card=False)
    assert not (tmp_path / "c" / "README.md").exists()
    with pytest.raises(ValueError, match="safe_serialization=False is not implemented"):
        mine.save_pretrained(tmp_path / "d", safe_serialization=False)
    with pytest.raises(ValueError, match="train_datasets is not implemented"):
        mine.save_pretrained(tmp_path / "d", train_datasets=["mine"])
    assert not (tmp_path / "d").exists()


@pytest.mark.parity
def test_evaluators_of_sentence_transformers_take_a_model(
    model: SentenceTransformer, cross_encoder: CrossEncoder, tmp_path: Path
) -> None:
    pytest.importorskip("sentence_transformers")
    from sentence_transformers.cross_encoder.evaluation import CrossEncoderRerankingEvaluator
    from sentence_transformers.sentence_transformer import evaluation

    a, b = [f"{x} b" for x in "abcdefgh"], [f"{x} c" for x in "hgfedcba"]
    similarity = evaluation.EmbeddingSimilarityEvaluator(a, b, [i / 8 for i in range(8)], name="letters")
    found = similarity(model, str(tmp_path))
    assert -1 <= found["letters_spearman_cosine"] <= 1 and any(tmp_path.iterdir())
    assert "letters" in next(iter(model.model_card_data.evaluations))
    corpus = {str(i): text for i, text in enumerate(b)}
    retrieval = evaluation.InformationRetrievalEvaluator({"q": "a b"}, corpus, {"q": {"3"}})
    assert model.evaluate(retrieval).keys() >= {"cosine_ndcg@10"}
    for kind, inputs in (
        (evaluation.TripletEvaluator, (a, b, b[::-1])),
        (evaluation.BinaryClassificationEvaluator, (a, b, [0, 1] * 4)),
        (evaluation.MSEEvaluator, (a, b, model)),
    ):
        if kind is evaluation.MSEEvaluator:
            inputs = (a, b, model)
        assert model.evaluate(kind(*inputs))
    samples = [{"query": "a", "positive": ["b c"], "negative": ["d e", "f"]}]
    assert cross_encoder.evaluate(CrossEncoderRerankingEvaluator(samples)).keys() >= {"map"}


def test_a_text_classifier_has_the_same_face(cross_encoder: CrossEncoder, tmp_path: Path) -> None:
    model = TextClassifier(modules=list(cross_encoder))
    model.save_pretrained(tmp_path / "saved")
    assert json.loads((tmp_path / "saved" / "config.json").read_text())["architectures"]
    assert model.to("cpu") is model
    with pytest.raises(AttributeError, match="what can be set is"):
        model.prompts_ = {}  # type: ignore[attr-defined]


@pytest.mark.parity
def test_a_device_is_equal_to_that_of_pytorch(model: SentenceTransformer) -> None:
    torch = pytest.importorskip("torch")
    assert model.device == torch.device("cpu") and torch.device("cpu") == model.device
    assert model.device.type == "cpu" and model.device.index is None and model.device != torch.device("meta")
    assert model.encode("a", convert_to_tensor=True).device == model.device and {model.device} == {"cpu"}


def test_the_prompt_for_a_task(model: SentenceTransformer) -> None:
    model.prompts = {"query": "a ", "passage": "b "}
    same = np.testing.assert_array_equal
    same(model.encode_query("c", None, None, 8), model.encode("a c"))
    same(model.encode_query(["c"], batch_size=1, truncate_dim=3), model.encode(["a c"], truncate_dim=3))
    same(model.encode_document(sentences="c"), model.encode("b c"))  # type: ignore[call-arg]
    same(model.encode_document("c", "query"), model.encode("a c", task="document"))
    same(model.encode_query("c", prompt=""), model.encode("c"))
    assert inspect.signature(model.encode_query) == inspect.signature(model.encode)
    assert model.encode_query.__name__ == "encode_query"
    model.encode = lambda **settings: settings  # type: ignore[method-assign]
    for found in (model.encode_query("c", None, None, 8), model.encode_query(sentences="c", batch_size=8)):  # type: ignore[call-arg]
        assert found == {"inputs": "c", "prompt_name": "query", "prompt": None, "batch_size": 8, "task": "query"}
    del model.encode
    features = model.encode("c", prompt="a ", output_value=None)
    assert features["prompt_length"] == 2 and features["modality"] == "text"
    assert "prompt_length" not in model.encode("c", output_value=None)
