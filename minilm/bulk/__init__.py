"""Jobs over many texts: files to files that survive a kill (`embed_files`), and a callable for pipelines (`Embed`)."""

from __future__ import annotations

from importlib.util import find_spec

if find_spec("pyarrow") is None:
    raise ImportError("minilm.bulk needs pyarrow: pip install 'minilm[bulk]'")

from ..sentences.by_name import ModelName
from .job import embed_files
from .settings import Settings
from .table import Embed

__all__ = ["Embed", "ModelName", "Settings", "embed_files"]
