"""minilm in place of sentence-transformers, for code that imports that package itself.

In Python: ``minilm.as_sentence_transformers()``. For a script: ``python -m minilm.integrations.standin SCRIPT``.
Processes that such code starts anew (``spawn``) begin without it.
"""

from __future__ import annotations

import copyreg
import runpy
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

from .. import util
from ..sentences import cross_encoder, modules, sentence_transformer
from ..vectors.similarity import SimilarityFunction

NAME = "sentence_transformers"
VERSION = "6.2.0"  # whose public names and arguments minilm has

_NOT_HERE = (
    "Asym", "BoW", "CLIPModel", "CNN", "Dropout", "LSTM", "LayerNorm", "Router", "StaticEmbedding",
    "WeightedLayerPooling", "WordEmbeddings", "WordWeights",
)  # fmt: skip


class _Pickled:
    """Pickles as an object of this module, which is there in every process."""

    def __reduce__(self) -> tuple[Any, ...]:
        if type(self) not in _CLASSES:  # one that was derived from it
            return copyreg.__newobj__, (type(self),), self.__dict__  # type: ignore[attr-defined]
        return _empty, (_CLASSES.index(type(self)),), self.__dict__


class SentenceTransformer(_Pickled, sentence_transformer.SentenceTransformer):
    """`minilm.SentenceTransformer`, as a class of sentence_transformers."""


class CrossEncoder(_Pickled, cross_encoder.CrossEncoder):
    """`minilm.CrossEncoder`, as a class of sentence_transformers."""


_CLASSES: tuple[Any, ...] = (SentenceTransformer, CrossEncoder)
for _class in _CLASSES:
    _class.__module__ = NAME  # some frameworks look for the package's name in that of the class


def _empty(number: int) -> Any:
    return _CLASSES[number].__new__(_CLASSES[number])


def _missing(name: str) -> type:
    """Return a class that can be imported, and says when it is used that it is not here."""

    def refuse(self: Any, *args: Any, **kwargs: Any) -> None:
        raise NotImplementedError(f"minilm, in place of {NAME}, has no {name}: it is not of the BERT family")

    return type(name, (), {"__init__": refuse, "__module__": f"{NAME}.models"})


def _contents() -> dict[str, dict[str, Any]]:
    """Return the names in each module, by the module's own name after the package's."""
    quantization = {
        name: getattr(util, name)
        for name in ("quantize_embeddings", "semantic_search_faiss", "semantic_search_usearch")
    }
    kinds = {name: getattr(modules, name) for name in ("Dense", "Normalize", "Pooling", "Transformer")}
    kinds |= {name: _missing(name) for name in _NOT_HERE}
    return {
        "": {
            "SentenceTransformer": SentenceTransformer,
            "CrossEncoder": CrossEncoder,
            "SimilarityFunction": SimilarityFunction,
            "quantize_embeddings": util.quantize_embeddings,
            "__version__": VERSION,
        },
        ".cross_encoder": {"CrossEncoder": CrossEncoder},
        ".models": kinds,
        ".quantization": quantization,
        ".sentence_transformer": {"SentenceTransformer": SentenceTransformer},
        ".sentence_transformer.modules": kinds,
        ".util": {name: getattr(util, name) for name in util.__all__} | {"__getattr__": util.__getattr__},
        ".util.quantization": quantization,
    }


class Standin:
    """What `as_sentence_transformers` returns: at the end of a ``with`` statement the stand-in is taken away."""

    def __init__(self, made: dict[str, ModuleType]) -> None:
        self._made = made

    def __enter__(self) -> ModuleType:
        return self._made[NAME]

    def __exit__(self, *_: object) -> None:
        for name, module in self._made.items():
            if sys.modules.get(name) is module:
                del sys.modules[name]


def as_sentence_transformers() -> Standin:
    """Let ``import sentence_transformers`` find minilm from now on, in this process.

    There are ``SentenceTransformer``, ``CrossEncoder``, ``SimilarityFunction``, and the modules ``util``, ``models``,
    ``quantization`` and ``cross_encoder``; nothing for training. A second call changes nothing.

    Returns
    -------
    Standin
        For a ``with`` statement that ends it. Without one, it lasts as long as the process.

    Raises
    ------
    RuntimeError
        If the real package is imported already.

    Examples
    --------
    ::

        minilm.as_sentence_transformers()
        from langchain_huggingface import HuggingFaceEmbeddings

        embeddings = HuggingFaceEmbeddings(model_name="all-MiniLM-L6-v2")
    """
    present = sys.modules.get(NAME)
    if present is not None and not getattr(present, "_is_minilm", False):
        raise RuntimeError(f"{NAME} is imported already: call as_sentence_transformers() before that")
    if present is not None:
        return Standin({})
    made: dict[str, ModuleType] = {}
    for suffix, names in _contents().items():
        module = ModuleType(NAME + suffix, f"minilm in place of {NAME}{suffix}.")
        module.__spec__ = ModuleSpec(module.__name__, None, is_package=True)
        module.__path__ = []
        module.__dict__.update(names, _is_minilm=True)
        made[module.__name__] = module
        parent, _, own = module.__name__.rpartition(".")
        if parent:
            setattr(made[parent], own, module)
    sys.modules.update(made)
    return Standin(made)


def main(arguments: list[str]) -> None:
    """Run a script with the stand-in in place."""
    if not arguments or arguments[0].startswith("-"):
        sys.exit("usage: python -m minilm.integrations.standin SCRIPT [ARGUMENT]...")
    as_sentence_transformers()
    sys.argv = arguments
    sys.path[0] = str(Path(arguments[0]).resolve().parent)  # as for a script that is run by itself
    runpy.run_path(arguments[0], run_name="__main__")


if __name__ == "__main__":
    main(sys.argv[1:])
