"""From text to ids: the tokenizer, its files, its special tokens."""
