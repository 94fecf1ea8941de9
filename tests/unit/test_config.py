"""Configs: what is taken, and what is refused by name."""

from __future__ import annotations

import dataclasses
import json

import pytest

from minilm.config import BertConfig
from minilm.loading.checkpoint import read_config
from minilm.loading.hub import find_files


def test_real_config(model_dir):
    config = read_config(find_files(model_dir))
    assert (config.hidden_size, config.num_hidden_layers, config.num_attention_heads) == (384, 6, 12)
    assert (config.intermediate_size, config.vocab_size, config.layer_norm_eps) == (1536, 30522, 1e-12)
    assert config.architectures == ("BertModel",)
    assert config.id2label is None
    with pytest.raises(ValueError, match="neither id2label nor num_labels"):
        _ = config.labels


@pytest.mark.parity
def test_defaults_are_those_of_transformers():
    transformers = pytest.importorskip("transformers")
    theirs, ours = transformers.BertConfig(), BertConfig()
    for name in (field.name for field in dataclasses.fields(BertConfig)):
        # theirs makes up two labels, and has no place for what other families have
        if name not in ("id2label", "num_labels", "architectures") and hasattr(theirs, name):
            assert getattr(ours, name) == getattr(theirs, name), name


@pytest.mark.parity
@pytest.mark.parametrize(
    "labels", [{"num_labels": 7}, {"id2label": {"0": "no", "1": "yes", "2": "perhaps"}}, {"id2label": {0: "score"}}]
)
def test_labels_survive_a_round_trip_through_transformers(tmp_path, labels):
    transformers = pytest.importorskip("transformers")
    theirs = transformers.BertConfig(**labels, problem_type="multi_label_classification")
    theirs.save_pretrained(tmp_path)
    config = read_config(find_files(tmp_path))
    assert dict(enumerate(config.labels)) == theirs.id2label
    assert config.problem_type == "multi_label_classification"


def test_labels():
    values = json.loads('{"id2label": {"1": "LABEL_1", "0": "LABEL_0", "10": "a", "2": 2}, "architectures": null}')
    config = BertConfig.from_dict(values)
    assert config.id2label == {1: "LABEL_1", 0: "LABEL_0", 10: "a", 2: "2"}
    assert config.architectures == ()
    with pytest.raises(ValueError, match=r"must number the labels 0, 1, 2, …, got \[0, 1, 2, 10\]"):
        _ = config.labels
    with pytest.raises(ValueError, match="names 2 labels, but num_labels is 3"):
        _ = BertConfig(id2label={0: "a", 1: "b"}, num_labels=3).labels
    assert dataclasses.replace(BertConfig(), num_labels=3).labels == ("LABEL_0", "LABEL_1", "LABEL_2")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"model_type": "gpt2"}, "model_type is 'gpt2', but only bert, roberta, xlm-roberta"),
        ({"model_type": ["bert"]}, r"model_type is \['bert'\], but only bert"),
        ({"model_type": None}, "model_type is None"),
        ({"position_embedding_type": "relative_key"}, "position_embedding_type is 'relative_key'"),
        ({"is_decoder": True}, "is_decoder is set, which is not implemented: only encoders"),
        ({"add_cross_attention": True}, "add_cross_attention is set"),
        ({"is_encoder_decoder": True}, "is_encoder_decoder is set, which is not implemented: only encoders are"),
        ({"pruned_heads": {"0": [1]}}, "pruned_heads is set"),
        ({"adapters": {"adapters": {"a": "x"}}}, "adapters is set, which is not implemented: merge them"),
        ({"quantization_config": {"bits": 4}}, "quantization_config is set"),
        ({"model_type": "roberta", "pad_token_id": None}, "pad_token_id is None, but positions start after it"),
        ({"model_type": "roberta", "max_position_embeddings": 2}, "max_position_embeddings 2 leaves no position"),
        ({"model_type": "mpnet", "relative_attention_num_buckets": 64}, "relative_attention_num_buckets is 64"),
        ({"model_type": "distilbert", "dim": 100}, "hidden_size 100 is not a multiple of num_attention_heads 12"),
        ({"model_type": "distilbert", "activation": "xielu"}, "hidden_act 'xielu' is not implemented"),
        ({"model_type": "albert", "inner_group_num": 0}, "inner_group_num must be an integer from 1"),
        ({"model_type": "albert", "num_hidden_groups": "2"}, "num_hidden_groups must be an integer from 1"),
        ({"model_type": "albert", "inner_group_num": 10**6}, "num_hidden_layers must be an integer from 0 to 1000"),
        ({"hidden_act": "xielu"}, "hidden_act 'xielu' is not implemented; known: gelu"),
        ({"hidden_act": ["gelu"]}, "hidden_act"),
        ({"hidden_size": 100}, "hidden_size 100 is not a multiple of num_attention_heads 12"),
        ({"hidden_size": "768"}, "hidden_size must be an integer from 1 to 2147483647, got '768'"),
        ({"hidden_size": 768.0}, "hidden_size must be an integer"),
        ({"vocab_size": 0}, "vocab_size must be an integer from 1"),
        ({"vocab_size": None}, "vocab_size must be an integer from 1"),
        ({"type_vocab_size": True}, "type_vocab_size must be an integer"),
        ({"num_hidden_layers": -1}, "num_hidden_layers must be an integer from 0 to 1000"),
        ({"num_hidden_layers": 10**9}, "num_hidden_layers must be an integer from 0 to 1000"),
        ({"num_labels": 10**9}, "num_labels must be an integer from 1 to 1000000"),
        ({"layer_norm_eps": "1e-12"}, "layer_norm_eps must be a number"),
        ({"layer_norm_eps": float("nan")}, "layer_norm_eps must be a number"),
        ({"pad_token_id": -1}, "pad_token_id must be an integer"),
        ({"tie_word_embeddings": "no"}, "tie_word_embeddings must be true or false"),
        ({"problem_type": "ranking"}, "problem_type 'ranking' is unknown; known: regression"),
        ({"id2label": ["a", "b"]}, "id2label must map numbers to names"),
        ({"id2label": {"one": "a"}}, "id2label must map numbers to names, got 'one': 'a'"),
        ({"id2label": {"0": None}}, "id2label must map numbers to names"),
        ({"id2label": {"0": "a", "00": "b"}}, "id2label numbers two labels alike"),
        ({"architectures": "BertModel"}, "architectures must be a list of names"),
        ({"architectures": [1]}, "architectures must be a list of names"),
    ],
)
def test_refused(tmp_path, values, message):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(values))
    with pytest.raises(ValueError, match=message) as error:
        read_config(find_files(path.parent))
    assert str(error.value).startswith(f"{path}: ")


@pytest.mark.parametrize("content", [b"", b"[]", b'"bert"', b"{", b"\xff\xfe", b"null", b'{"a":' * 100_000])
def test_not_a_config(tmp_path, content):
    path = tmp_path / "config.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=str(path)):
        read_config(find_files(path.parent))


def test_harmless(tmp_path):
    """Fields of training, of other versions, and of no interest to inference are left alone."""
    values = {"hidden_dropout_prob": 0.1, "pad_token_id": None, "is_decoder": False, "transformers_version": "4.8.2"}
    assert BertConfig.from_dict(values) == BertConfig(pad_token_id=None)
