"""Settings that hold for all functions of this process unless a call says otherwise."""

from __future__ import annotations

import os
from typing import Any

from minigraph.core.errors import InvalidTypeError, InvalidValueError
from minigraph.core.wishes import Wish, as_wishes

BACKENDS = ("native", "numpy", "cupy")
known_backends = [*BACKENDS]
"""The names of all backends, those from outside of the package included."""
FLOAT_TYPES = ("float32", "float64")


class Config:
    """Settings that functions are compiled and run with.

    backend: the name of the backend for functions that name none: "native", "numpy" or "cupy"; None, the default, means the
    environment variable MINIGRAPH_BACKEND, else "native" where it is installed, else "numpy".
    float_type: the dtype of inputs, layers, constants, random numbers and arrays where nothing else says one, while graphs are
    built: "float32" or "float64"; None, the default, means the environment variable MINIGRAPH_FLOAT_TYPE, else "float32".
    device: the number of the GPU that backend "cupy" uses, 0 by default.
    passes: passes that functions leave out and add, as `passes` of `function` takes them; none by default.
    verify: whether each pass is checked to keep types, leaves and outputs while functions are compiled; None, the default,
    means where the environment variable MINIGRAPH_VERIFY is 1.
    allow_tf32: whether products of float32 matrices on a GPU may round what they multiply to 11 bits of precision; False.

    >>> mg.config.backend = "numpy"
    >>> mg.config.backend = None
    """

    def __init__(self) -> None:
        self._values: dict[str, Any] = {
            "backend": None, "float_type": None, "device": 0, "allow_tf32": False, "passes": (), "verify": None,
        }  # fmt: skip

    @property
    def backend(self) -> str | None:
        """The backend of functions that name none."""
        value: str | None = self._values["backend"] or os.environ.get("MINIGRAPH_BACKEND") or None
        return value

    @backend.setter
    def backend(self, name: str | None) -> None:
        if name is not None and (not isinstance(name, str) or name not in known_backends):
            raise InvalidValueError(f"there is no backend {name!r}; use one of {tuple(known_backends)}, or None")
        self._values["backend"] = name

    @property
    def float_type(self) -> str:
        """The name of the dtype of floats that have no other."""
        value: str = self._values["float_type"] or os.environ.get("MINIGRAPH_FLOAT_TYPE") or "float32"
        if value not in FLOAT_TYPES:
            raise InvalidValueError(f"MINIGRAPH_FLOAT_TYPE is {value!r}; it must be one of {FLOAT_TYPES}")
        return value

    @float_type.setter
    def float_type(self, name: str | None) -> None:
        if name is not None and (not isinstance(name, str) or name not in FLOAT_TYPES):
            raise InvalidValueError(
                f"a float type is one of the names {FLOAT_TYPES}, or None, not {name!r}; give dtype= for others"
            )
        self._values["float_type"] = name

    @property
    def device(self) -> int:
        """The number of the GPU."""
        return int(self._values["device"])

    @device.setter
    def device(self, number: int) -> None:
        if isinstance(number, bool) or not isinstance(number, int) or number < 0:
            raise InvalidValueError(f"a device is a number of 0 or more, not {number!r}")
        self._values["device"] = number

    @property
    def passes(self) -> tuple[Wish, ...]:
        """The passes that functions leave out and add."""
        wishes: tuple[Wish, ...] = self._values["passes"]
        return wishes

    @passes.setter
    def passes(self, wishes: Any) -> None:
        self._values["passes"] = as_wishes(wishes)

    @property
    def verify(self) -> bool:
        """Whether passes are checked."""
        value = self._values["verify"]
        return os.environ.get("MINIGRAPH_VERIFY") == "1" if value is None else bool(value)

    @verify.setter
    def verify(self, wanted: bool | None) -> None:
        if wanted is not None and not isinstance(wanted, bool):
            raise InvalidTypeError(f"verify is True, False or None, not {wanted!r}")
        self._values["verify"] = wanted

    @property
    def allow_tf32(self) -> bool:
        """Whether products of float32 matrices may be rounded."""
        return bool(self._values["allow_tf32"])

    @allow_tf32.setter
    def allow_tf32(self, allowed: bool) -> None:
        if not isinstance(allowed, bool):
            raise InvalidTypeError(f"allow_tf32 is True or False, not {allowed!r}")
        self._values["allow_tf32"] = allowed

    def __repr__(self) -> str:
        return "mg.config"

    def __setattr__(self, name: str, value: Any) -> None:
        if not name.startswith("_") and name not in self._values:
            raise AttributeError(f"there is no setting {name!r}; there are {', '.join(self._values)}")
        object.__setattr__(self, name, value)


config = Config()
"""The settings."""
