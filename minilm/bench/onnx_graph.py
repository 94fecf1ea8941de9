"""BERT as ONNX Runtime likes it best: the graph of fused nodes that its own optimizer makes of an exported model.

``onnxruntime.transformers.optimizer`` (``model_type="bert"``) turns PyTorch's export of a BERT into three casts, one
``EmbedLayerNormalization``, and in every layer ``Attention``, ``MatMul``, ``SkipLayerNormalization``, ``MatMul``,
``BiasGelu``, ``MatMul``, ``SkipLayerNormalization``. The same nodes are written down here from the checkpoint, so that
the benchmark needs neither PyTorch nor an export.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from ..config import BertConfig

FUSED = "com.microsoft"  # the operators that ONNX Runtime adds to the standard's


class _Graph:
    """Nodes and weights as they are added; every method returns the name of its output."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def weight(self, value: np.ndarray) -> str:
        name = f"weight_{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(value, dtype=np.float32), name))
        return name

    def node(self, operator: str, *inputs: str, domain: str = "", outputs: int = 1, **attributes: Any) -> str:
        names = [f"{operator}_{len(self.nodes)}_{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(operator, list(inputs), names, domain=domain, **attributes))
        return names[0]

    def dense(self, x: str, params: Mapping[str, Any]) -> str:
        """``x Wᵀ``; the bias is left to the fused node that follows."""
        return self.node("MatMul", x, self.weight(params["weight"].T))

    def add_and_norm(self, x: str, residual: str, params: Mapping[str, Any], eps: float) -> str:
        norm, bias = params["LayerNorm"], params["dense"]["bias"]
        inputs = self.dense(x, params["dense"]), residual, *map(self.weight, (norm["weight"], norm["bias"], bias))
        return self.node("SkipLayerNormalization", *inputs, domain=FUSED, epsilon=eps)


def _embeddings(graph: _Graph, params: Mapping[str, Any], inputs: list[str], eps: float) -> tuple[str, str]:
    """Return the names of the embeddings and of the mask as ``Attention`` wants it: how many tokens each text has."""
    ids, mask, types = (graph.node("Cast", name, to=onnx.TensorProto.INT32) for name in inputs)
    tables = [params[f"{table}_embeddings"]["weight"] for table in ("word", "position", "token_type")]
    norm = params["LayerNorm"]
    weights = map(graph.weight, (*tables, norm["weight"], norm["bias"]))
    out = graph.node("EmbedLayerNormalization", ids, types, *weights, mask, domain=FUSED, outputs=2, epsilon=eps)
    return out, graph.nodes[-1].output[1]


def _layer(graph: _Graph, params: Mapping[str, Any], x: str, mask: str, config: BertConfig) -> str:
    """Add one layer of the encoder."""
    projections = [params["attention"]["self"][name] for name in ("query", "key", "value")]
    weight = graph.weight(np.concatenate([projection["weight"].T for projection in projections], axis=1))
    bias = graph.weight(np.concatenate([projection["bias"] for projection in projections]))
    context = graph.node("Attention", x, weight, bias, mask, domain=FUSED, num_heads=config.num_attention_heads)
    x = graph.add_and_norm(context, x, params["attention"]["output"], config.layer_norm_eps)
    dense = params["intermediate"]["dense"]
    wide = graph.node("BiasGelu", graph.dense(x, dense), graph.weight(dense["bias"]), domain=FUSED)
    return graph.add_and_norm(wide, x, params["output"], config.layer_norm_eps)


def fused_bert(params: Mapping[str, Any], config: BertConfig) -> onnx.ModelProto:
    """Return the encoder: ``input_ids``, ``attention_mask``, ``token_type_ids`` → ``last_hidden_state``.

    Parameters
    ----------
    params
        The checkpoint's tree as NumPy arrays, without pooler and heads.
    config
        Its configuration; the activation must be ``"gelu"``, the one that has a fused node here.
    """
    if config.hidden_act != "gelu":
        raise ValueError(f"the fused ONNX graph is for hidden_act 'gelu', this checkpoint has {config.hidden_act!r}")
    graph = _Graph()
    names = ["input_ids", "attention_mask", "token_type_ids"]
    x, mask = _embeddings(graph, params["embeddings"], names, config.layer_norm_eps)
    layers = params["encoder"]["layer"]
    for i in range(config.num_hidden_layers):
        x = _layer(graph, layers[str(i)], x, mask, config)
    graph.nodes[-1].output[0] = "last_hidden_state"
    ids = [helper.make_tensor_value_info(name, onnx.TensorProto.INT64, ["batch", "tokens"]) for name in names]
    shape: list[str | int | None] = ["batch", "tokens", config.hidden_size]
    out = helper.make_tensor_value_info("last_hidden_state", onnx.TensorProto.FLOAT, shape)
    operators = [helper.make_opsetid("", 17), helper.make_opsetid(FUSED, 1)]
    bert = helper.make_graph(graph.nodes, "bert", ids, [out], graph.weights)
    return helper.make_model(bert, opset_imports=operators, ir_version=8)
