"""Graph to graph: switching modes, dropout; and pairs (population, estimate) to updates."""

from minigraph.transforms.batch_normalization import (
    apply_batch_normalization,
    apply_population_normalization,
    cumulative_average,
    get_batch_normalization_updates,
    moving_average,
)
from minigraph.transforms.noise import apply_dropout, apply_noise

__all__ = [
    "apply_batch_normalization",
    "apply_dropout",
    "apply_noise",
    "apply_population_normalization",
    "cumulative_average",
    "get_batch_normalization_updates",
    "moving_average",
]
