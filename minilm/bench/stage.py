"""The checkpoint's files laid out in a temporary folder, once as each peer looks for them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from ..config import BertConfig
from ..loading.checkpoint import read_config
from ..loading.hub import PINNED_DIGESTS, ModelFiles
from ..loading.json_files import read_json_if_there
from ..sentences.modules import max_seq_length

FILES = tuple(PINNED_DIGESTS)  # what any of the peers reads of a sentence model


def lay_out(files: ModelFiles, folder: Path) -> None:
    """Lay the checkpoint out as a plain folder, ``folder/files``, and as a Hub cache, ``folder/hub``.

    candding takes its models from the Hub's cache alone, so it gets one that holds just this model.
    """
    revision = files.revision or "0" * 40
    repository = folder / "hub" / f"models--{files.name.replace('/', '--')}"
    snapshot = repository / "snapshots" / revision
    for name in FILES:
        source = files.get(name)
        if source is not None:
            _link(source, folder / "files" / name)
            _link(source, snapshot / name)
    ref = repository / "refs" / "main"
    ref.parent.mkdir(parents=True)
    ref.write_text(revision, encoding="ascii")


def _link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source.resolve(), target)
    except OSError:  # on another disk
        shutil.copyfile(source, target)


def write_onnx(files: ModelFiles, folder: Path) -> None:
    """Write the fused graph of the checkpoint as ``folder/bert.onnx``."""
    import onnx

    from ..models.bert import BertModel
    from .onnx_graph import fused_bert

    if (folder / "bert.onnx").exists():  # another peer reads it as well
        return
    config = read_config(files)
    model = BertModel.from_files(files, "numpy")
    onnx.save(fused_bert(model.params, config), str(folder / "bert.onnx"))


def write_int8_onnx(files: ModelFiles, folder: Path) -> None:
    """Write the fused graph with integer products as ``folder/bert-int8.onnx``.

    As ``optimum`` quantizes with ``AutoQuantizationConfig.avx512_vnni(is_static=False)``: weights int8 per channel,
    activations uint8 per tensor, quantized as they come. Lookup tables and LayerNorm stay in float32.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    write_onnx(files, folder)
    quantize_dynamic(
        folder / "bert.onnx",
        folder / "bert-int8.onnx",
        op_types_to_quantize=["MatMul", "Attention"],
        per_channel=True,
        weight_type=QuantType.QInt8,
        extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT},
    )


def write_ctranslate2(files: ModelFiles, folder: Path, compute_type: str = "float32") -> None:
    """Convert the checkpoint for CTranslate2: ``folder/ctranslate2-float32``."""
    from ctranslate2.converters import TransformersConverter

    converter = TransformersConverter(str(folder / "files"))
    converter.convert(str(folder / f"ctranslate2-{compute_type}"), quantization=compute_type)


def write_int8_ctranslate2(files: ModelFiles, folder: Path) -> None:
    """Convert and quantize the checkpoint for CTranslate2: ``folder/ctranslate2-int8``."""
    write_ctranslate2(files, folder, "int8")


def tokenizer(files: ModelFiles) -> Any:
    """Return the checkpoint's ``tokenizers.Tokenizer``, which neither cuts nor pads."""
    from tokenizers import Tokenizer

    found = Tokenizer.from_file(str(files["tokenizer.json"]))
    found.no_truncation()
    found.no_padding()
    return found


def max_tokens(files: ModelFiles, config: BertConfig) -> int:
    """Return where the sentence model cuts texts, [CLS] and [SEP] included."""
    path, settings = read_json_if_there(files, "sentence_bert_config.json")
    return max_seq_length(settings, path, config.max_tokens, config.max_tokens)
