"""The functions on vectors that ``sentence_transformers.util`` has, by their names there."""

from __future__ import annotations

from typing import Any

from ..models import normalize as normalize_embeddings
from ..vectors.indexes import semantic_search_faiss, semantic_search_usearch
from ..vectors.quantization import quantize_embeddings
from ..vectors.search import (
    community_detection,
    paraphrase_mining,
    paraphrase_mining_embeddings,
    semantic_search,
)
from ..vectors.similarity import (
    SimilarityFunction,
    cos_sim,
    dot_score,
    euclidean_sim,
    manhattan_sim,
    pairwise_angle_sim,
    pairwise_cos_sim,
    pairwise_dot_score,
    pairwise_euclidean_sim,
    pairwise_manhattan_sim,
)

__all__ = [
    "SimilarityFunction",
    "community_detection",
    "cos_sim",
    "dot_score",
    "euclidean_sim",
    "get_device_name",
    "information_retrieval",
    "manhattan_sim",
    "normalize_embeddings",
    "pairwise_angle_sim",
    "pairwise_cos_sim",
    "pairwise_dot_score",
    "pairwise_euclidean_sim",
    "pairwise_manhattan_sim",
    "paraphrase_mining",
    "paraphrase_mining_embeddings",
    "pytorch_cos_sim",
    "quantize_embeddings",
    "semantic_search",
    "semantic_search_faiss",
    "semantic_search_usearch",
    "truncate_embeddings",
]

pytorch_cos_sim = cos_sim  # its first name
information_retrieval = semantic_search  # its first name

_REFUSED = {  # why names of sentence_transformers.util are not here
    "it works on tensors, and there are none here": (
        "batch_to_device", "cat_padded_token_embeddings", "repad_flattened_features", "stack_padded_token_embeddings",
    ),
    "models of several vectors a text are not implemented": (
        "maxsim", "maxsim_pairwise", "mean_maxsim", "mean_maxsim_pairwise",
    ),
    "sparse vectors are not implemented": ("compute_count_vector", "select_max_active_dims", "to_scipy_coo"),
    "it serves training": (
        "all_gather", "all_gather_padded", "all_gather_with_grad", "check_teacher_targets", "get_rank",
        "get_world_size", "is_dist_initialized", "mine_hard_negatives", "resolve_ids",
    ),
    "it serves the inside of that package": (
        "LoggingHandler", "append_to_last_row", "check_package_availability", "check_version_requirements",
        "disable_datasets_caching", "disable_logging", "disabled_tqdm", "fullname", "http_get", "import_from_string",
        "import_module_class", "install_logger", "is_accelerate_available", "is_datasets_available",
        "is_training_available", "load_dir_path", "load_file_path", "save_to_hub_args_decorator", "similarity_fct_name",
    ),
    "minilm.loading.hub.find_files tells whether there is a modules.json": ("is_sentence_transformer_model",),
}  # fmt: skip


def truncate_embeddings(embeddings: Any, truncate_dim: int | None) -> Any:
    """Keep the first ``truncate_dim`` components: [..., hidden] → [..., truncate_dim]; None keeps all."""
    return embeddings[..., :truncate_dim]


def get_device_name() -> str:
    """Return ``"cuda"`` where CuPy can compute on a GPU, else ``"cpu"``."""
    from ..backends import available_backends

    return "cuda" if "cupy" in available_backends() else "cpu"


def __getattr__(name: str) -> Any:
    for reason, names in _REFUSED.items():
        if name in names:
            raise AttributeError(f"minilm.util has no {name}: {reason}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
