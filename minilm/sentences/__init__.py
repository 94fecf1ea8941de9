"""The classes that take texts: `SentenceTransformer` and `CrossEncoder`, as in the package sentence-transformers."""
