"""The classes that take texts: `SentenceTransformer`, `CrossEncoder` and `TextClassifier`."""
