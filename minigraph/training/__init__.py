"""Update rules: pure functions from a cost (or gradients) and parameters to pairs (shared variable, new value)."""

from minigraph.training.gradients import clip_gradient_norm, clip_gradients, weight_decay
from minigraph.training.rules import adadelta, adagrad, adam, adamw, amsgrad, momentum, nesterov, rmsprop, sgd
from minigraph.training.schedules import cosine_decay, exponential_decay, linear_warmup, step_decay

__all__ = [
    "adadelta",
    "adagrad",
    "adam",
    "adamw",
    "amsgrad",
    "clip_gradient_norm",
    "clip_gradients",
    "cosine_decay",
    "exponential_decay",
    "linear_warmup",
    "momentum",
    "nesterov",
    "rmsprop",
    "sgd",
    "step_decay",
    "weight_decay",
]
