"""`Backend`: where arrays live, and which operations compute with them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

import numpy as np

from ..arrays import Array
from ..config import BertConfig
from ..operations import Operations
from ..parameters import Params
from .threads import look_at_limits

Method = TypeVar("Method", bound=Callable[..., Any])


@dataclass(frozen=True)
class Backend:
    """Where a model's arrays live, and the operations that compute with them.

    Attributes
    ----------
    name
        ``"numpy"``, ``"numba"``, …
    operations
        The table of operations that the network calls.
    place
        Puts a tree of NumPy parameters on the backend's device, in the memory layout that its operations read.
    from_numpy
        Puts ids, masks and the like on the backend's device.
    to_numpy
        Brings a result back.
    dtype
        Of the parameters and of the results, by NumPy's name.
    device
        ``"cpu"``, ``"cuda"`` or, say, ``"cuda:1"``.
    on_device
        A context to compute in: it makes the backend's device the current one of this thread.
    synchronize
        Waits until everything that was begun is done.
    pack_tokens
        How many tokens a pack may have, from the model's config, where the device's memory sets the limit; else None.
    """

    name: str
    operations: Operations
    place: Callable[[Params], Params] = field(repr=False)
    from_numpy: Callable[[np.ndarray], Array] = field(repr=False)
    to_numpy: Callable[[Array], np.ndarray] = field(repr=False)
    dtype: str = "float32"
    device: str = "cpu"
    on_device: Callable[[], AbstractContextManager[Any]] = field(default=nullcontext, repr=False)
    synchronize: Callable[[], None] = field(default=lambda: None, repr=False)
    pack_tokens: Callable[[BertConfig], int] | None = field(default=None, repr=False)


def on_device(method: Method) -> Method:
    """Decorate a method of an object with a ``backend``: it runs while the backend's device is the current one.

    The user's limit on threads is read first. A small number may become 0 in the method, as in every softmax, also
    where ``np.seterr`` makes that an error.
    """

    @functools.wraps(method)
    def run(self: Any, *args: Any, **kwargs: Any) -> Any:
        look_at_limits()
        with np.errstate(under="ignore"), self.backend.on_device():
            return method(self, *args, **kwargs)

    return cast(Method, run)
