"""Backends: where arrays live, and which operations compute with them. A backend is chosen once and passed on."""

from __future__ import annotations

from .backend import Backend, on_device
from .choosing import BACKENDS, available_backends, get_backend

__all__ = ["BACKENDS", "Backend", "available_backends", "get_backend", "on_device"]
