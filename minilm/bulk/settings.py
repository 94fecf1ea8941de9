"""What a job does with its rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..config import check_count
from ..vectors.quantization import PRECISIONS

ON_ERROR = ("fail", "skip", "null")
FORMATS = ("parquet", "npy")


@dataclass(frozen=True)
class Settings:
    """What is read of each row, and what is written of it.

    Attributes
    ----------
    text
        The column of the texts.
    id
        The column that tells rows apart; without one, a row's id is its file and its number in it, ``"a.csv:0"``.
    keep
        Columns that are copied to the output.
    prompt_name, normalize_embeddings, truncate_dim
        As in `minilm.SentenceTransformer.encode`.
    precision
        ``"float32"`` (what the model computes), ``"float16"``, or one of
        `minilm.vectors.quantization.quantize_embeddings`. The ranges of ``"int8"`` and ``"uint8"`` are those of the
        job's first texts, `minilm.bulk.job.CALIBRATION_TEXTS` of them.
    format
        ``"parquet"``; or ``"npy"``: an array for each part, and ids and kept columns in a Parquet file beside it.
    on_error
        What happens to a row that cannot be read, or whose text is none: ``"fail"`` ends the job, ``"skip"`` leaves the
        row out, ``"null"`` gives it a null vector. The last two list it in the folder ``_rejects``.
    dedupe
        Whether a text that comes again soon is embedded once: `minilm.bulk.units.KNOWN_TEXTS` texts are remembered.
    part_rows
        How many rows of the input go into a part: what a kill can cost.
    shards
        Among how many jobs the parts are shared out.
    """

    text: str = "text"
    id: str | None = None
    keep: tuple[str, ...] = ()
    prompt_name: str | None = None
    normalize_embeddings: bool = False
    truncate_dim: int | None = None
    precision: str = "float32"
    format: str = "parquet"
    on_error: str = "fail"
    dedupe: bool = False
    part_rows: int = 2048
    shards: int = 1

    def __post_init__(self) -> None:
        for name, known in (("on_error", ON_ERROR), ("format", FORMATS), ("precision", ("float16", *PRECISIONS))):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}, got {getattr(self, name)!r}")
        for name in ("part_rows", "shards"):
            check_count(name, getattr(self, name))
        object.__setattr__(self, "keep", tuple(self.keep))
        if len(set(self.keep)) < len(self.keep):
            raise ValueError(f"keep names a column twice: {', '.join(self.keep)}")
        for name in {"id", "embedding"} & set(self.keep):
            advice = "name it as the id instead" if name == "id" else "rename it in the input"
            raise ValueError(f"keep has {name!r}, which is a column of the output's own: {advice}")

    @property
    def computed(self) -> str:
        """The precision in which vectors come from the model."""
        return self.precision if self.precision.endswith("binary") else "float32"

    @property
    def encoding(self) -> dict[str, Any]:
        """The arguments of `minilm.SentenceTransformer.encode_chunks`."""
        return {
            "prompt_name": self.prompt_name,
            "normalize_embeddings": self.normalize_embeddings,
            "truncate_dim": self.truncate_dim,
            "precision": self.computed,
        }
