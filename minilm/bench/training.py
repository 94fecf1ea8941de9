"""A training step, as users of each library write it: pairs of texts, in-batch negatives, dropout and AdamW."""

from __future__ import annotations

from collections.abc import Callable

from .peers import BATCH_SIZE, Setting

Pairs = list[tuple[str, str]]
Train = Callable[[Pairs], list[float]]  # one epoch over the pairs → the loss of every step

LEARNING_RATE = 2e-5


def _minilm(setting: Setting) -> Train:
    from ..sentences.sentence_transformer import SentenceTransformer
    from ..training.fitting import fit

    model = SentenceTransformer(setting.model, revision=setting.revision, threads=setting.threads, truncation="silent")

    def train(pairs: Pairs) -> list[float]:
        return fit(
            model,
            pairs,
            "MultipleNegativesRankingLoss",
            batch_size=BATCH_SIZE,
            learning_rate=LEARNING_RATE,
            threads=setting.threads,
            show_progress_bar=False,
        ).losses

    return train


def _sentence_transformers(setting: Setting) -> Train:
    """The steps of sentence-transformers' trainer, without what the trainer does around them."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

    torch.set_num_threads(setting.threads)
    model = SentenceTransformer(str(setting.folder / "files"), device="cpu")
    loss = MultipleNegativesRankingLoss(model)

    def train(pairs: Pairs) -> list[float]:
        model.train()
        optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.01)
        losses = []
        for start in range(0, len(pairs), BATCH_SIZE):
            columns = zip(*pairs[start : start + BATCH_SIZE], strict=True)
            value = loss([model.preprocess(list(column)) for column in columns], torch.empty(0))
            value.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            losses.append(value.item())
        return losses

    return train


TRAINERS: dict[str, Callable[[Setting], Train]] = {
    "minilm": _minilm,
    "sentence-transformers": _sentence_transformers,
}
