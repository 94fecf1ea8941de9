"""Search over files: which files, what text is in them, passages that the model reads whole, one SQLite file, ranking.

The way of a file: `walking` finds it, `documents` reads its text, `passages` cuts it, `index` has it embedded, `store`
keeps it. The way of a question: `matrix` compares vectors, the store's full-text index compares words, and `ranking`
makes one list of the two.
"""
