"""Looking inside a model: every operation of a pass, and every sublayer beside PyTorch's."""
