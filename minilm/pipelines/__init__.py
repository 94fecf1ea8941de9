"""Hugging Face's pipelines: from texts to what a model says of them, in one call."""

from __future__ import annotations

from .base import Pipeline
from .choosing import pipeline
from .tasks import (
    FeatureExtractionPipeline,
    FillMaskPipeline,
    SentenceSimilarityPipeline,
    TextClassificationPipeline,
)
from .token_classification import TokenClassificationPipeline
from .zero_shot import ZeroShotClassificationPipeline

__all__ = [
    "FeatureExtractionPipeline",
    "FillMaskPipeline",
    "Pipeline",
    "SentenceSimilarityPipeline",
    "TextClassificationPipeline",
    "TokenClassificationPipeline",
    "ZeroShotClassificationPipeline",
    "pipeline",
]
