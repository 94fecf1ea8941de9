"""What is known about a model beside its numbers, and the README.md that says it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

_CARD = """---
{metadata}
---

# {title}

{what}

```python
from {package} import {kind}

model = {kind}("{name}")
{example}
```

`from sentence_transformers import {kind}` loads the same files and gives the same numbers.
"""
_RESULTS = """
## Evaluation

| evaluator | metric | value |
|---|---|---|
{rows}
"""


@dataclass
class ModelCardData:
    """What the README.md of a saved model says.

    Attributes
    ----------
    language, license
        Of the model: a code such as ``"en"``, or several; an identifier such as ``"apache-2.0"``.
    model_name
        The title.
    model_id
        The name by which the example in the README.md loads the model.
    base_model, base_model_revision
        The name on the Hub, and the commit, of the model that this one is, or is made from; set while loading.
    tags
        Tags for the Hub, beside those that every such model has.
    evaluations
        The metrics of each evaluator that ran, by what it is.
    """

    language: str | list[str] | None = None
    license: str | None = None
    model_name: str | None = None
    model_id: str | None = None
    base_model: str | None = None
    base_model_revision: str | None = None
    tags: list[str] = field(default_factory=list)
    evaluations: dict[str, dict[str, float]] = field(default_factory=dict)

    def set_evaluation_metrics(
        self, evaluator: Any, metrics: Mapping[str, float], epoch: int = 0, step: int = 0
    ) -> None:
        """Keep the metrics that an evaluator of sentence-transformers found; a second run replaces the first."""
        what = str(getattr(evaluator, "description", type(evaluator).__name__))
        self.evaluations[f"{what} {getattr(evaluator, 'name', '')}".strip()] = dict(metrics)


def card(data: Any, name: str | None, *, kind: str, task: str, tag: str, title: str, what: str, example: str) -> str:
    """Return the text of a README.md.

    Parameters
    ----------
    data
        A `ModelCardData`, or an object with some of its attributes.
    name
        The name by which the example loads the model; None: that of ``data``.
    kind
        The class that loads the model.
    task, tag
        The Hub's ``pipeline_tag``, and a tag.
    title, what, example
        The title where ``data`` has none; a sentence; lines of Python.
    """
    tags = list(dict.fromkeys(["sentence-transformers", tag, *(getattr(data, "tags", None) or [])]))
    metadata = ["library_name: sentence-transformers", f"pipeline_tag: {task}"]
    languages = getattr(data, "language", None) or []
    for key, values in (("language", [languages] if isinstance(languages, str) else languages), ("tags", tags)):
        if values:
            metadata += [f"{key}:", *(f"- {value}" for value in values)]
    metadata += [f"{key}: {getattr(data, key)}" for key in ("license", "base_model") if getattr(data, key, None)]
    text = _CARD.format(
        metadata="\n".join(metadata),
        title=getattr(data, "model_name", None) or title,
        what=what,
        package="minilm",
        kind=kind,
        name=name or getattr(data, "model_id", None) or "path/of/this/folder",
        example=example,
    )
    rows = [
        f"| {evaluator} | {metric} | {value:.4f} |"
        for evaluator, metrics in getattr(data, "evaluations", {}).items()
        for metric, value in metrics.items()
    ]
    return text + (_RESULTS.format(rows="\n".join(rows)) if rows else "")
