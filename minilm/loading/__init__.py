"""From a name to arrays: which files (`hub`), which tensors (`checkpoint`, `pickles`), which ids (`tokenizer`)."""
