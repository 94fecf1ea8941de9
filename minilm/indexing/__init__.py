"""Search over files: which files, what text is in them, passages that the model reads whole, one SQLite file, ranking.

The way of a file: `walking` finds it, `documents` reads its text, `passages` cuts it, `updating` has it embedded,
`store` keeps it. The way of a question: `model` embeds it, `matrix` compares vectors (or `graph` looks some up), the
store's full-text index compares words, and `ranking` makes one list of the two. `index` is what people use.
"""
