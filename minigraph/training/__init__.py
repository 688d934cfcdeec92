"""Update rules: pure functions from a cost (or gradients) and parameters to pairs (shared variable, new value)."""

import sys
from types import ModuleType
from typing import NoReturn

from minigraph.core.errors import InvalidTypeError
from minigraph.core.guard import guard_all
from minigraph.training.gradients import clip_gradient_norm, clip_gradients, weight_decay
from minigraph.training.rules import adadelta, adagrad, adam, adamw, amsgrad, momentum, nesterov, rmsprop, sgd
from minigraph.training.schedules import cosine_decay, exponential_decay, linear_warmup, step_decay

__all__ = [
    "adadelta", "adagrad", "adam", "adamw", "amsgrad", "clip_gradient_norm", "clip_gradients", "cosine_decay",
    "exponential_decay", "linear_warmup", "momentum", "nesterov", "rmsprop", "sgd", "step_decay", "weight_decay",
]  # fmt: skip

guard_all(globals(), __all__)


class _Rules(ModuleType):
    """This module, which shares its name with the mode of layers, and says so where it is called."""

    def __call__(self, *layers: object, **options: object) -> NoReturn:
        raise InvalidTypeError("minigraph.training is the module of update rules; the mode is mg.training_mode(...)")


sys.modules[__name__].__class__ = _Rules
