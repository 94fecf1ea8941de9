"""Arithmetic on finished vectors: similarity, search, quantization."""
