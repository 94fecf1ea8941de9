"""Jobs over many texts: files to files that survive a kill (`embed_files`), and a callable for pipelines (`Embed`)."""

from __future__ import annotations

try:
    import pyarrow  # noqa: F401
except ImportError as error:
    raise ImportError("minilm.bulk needs pyarrow: pip install 'minilm[bulk]'") from error

from ..sentences.by_name import ModelName
from .job import embed_files
from .settings import Settings
from .table import Embed

__all__ = ["Embed", "ModelName", "Settings", "embed_files"]
