"""The checkpoint's files laid out in a temporary folder, once as each peer looks for them."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

from ..config import BertConfig
from ..loading.hub import ModelFiles

# What any of the peers reads of a sentence model.
FILES = (
    "1_Pooling/config.json",
    "config.json",
    "config_sentence_transformers.json",
    "model.safetensors",
    "modules.json",
    "sentence_bert_config.json",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.txt",
)


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
        os.symlink(source.resolve(), target)
    except OSError:  # Windows grants links to few
        shutil.copyfile(source, target)


def write_onnx(files: ModelFiles, folder: Path) -> None:
    """Write the fused graph of the checkpoint as ``folder/bert.onnx``."""
    import onnx

    from ..models import BertModel
    from .onnx_graph import fused_bert

    config = BertConfig.from_json(files["config.json"])
    model = BertModel.from_pretrained(folder / "files", backend="numpy")
    onnx.save(fused_bert(model.params, config), str(folder / "bert.onnx"))


def tokenizer(files: ModelFiles) -> Any:
    """Return the checkpoint's ``tokenizers.Tokenizer``, which neither cuts nor pads."""
    from tokenizers import Tokenizer

    found = Tokenizer.from_file(str(files["tokenizer.json"]))
    found.no_truncation()
    found.no_padding()
    return found


def max_tokens(files: ModelFiles, config: BertConfig) -> int:
    """Return where the sentence model cuts texts, [CLS] and [SEP] included."""
    path = files.get("sentence_bert_config.json")
    limit = json.loads(path.read_text(encoding="utf-8")).get("max_seq_length") if path is not None else None
    return min(limit or config.max_position_embeddings, config.max_position_embeddings)
