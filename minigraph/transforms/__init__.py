"""Graph to graph: switching modes, dropout; and pairs (population, estimate) to updates."""

from minigraph.core.guard import guard_all
from minigraph.transforms.accumulation import StatisticsAccumulator
from minigraph.transforms.averages import (
    caffe_average,
    cumulative_average,
    debiased_moving_average,
    decayed_sums,
    gomlx_average,
    moving_average,
    overwrite,
    puzzlelib_average,
)
from minigraph.transforms.batch_normalization import (
    Duplicates,
    apply_batch_normalization,
    apply_population_normalization,
    get_batch_normalization_updates,
)
from minigraph.transforms.folding import fold_batch_normalization
from minigraph.transforms.freezing import freeze_batch_normalization
from minigraph.transforms.monitoring import LayerGap, PopulationGap, population_gap
from minigraph.transforms.noise import apply_dropout, apply_noise
from minigraph.transforms.recomputation import recompute_population_statistics, reset_population_statistics

__all__ = [
    "Duplicates", "LayerGap", "PopulationGap", "StatisticsAccumulator", "apply_batch_normalization", "apply_dropout",
    "apply_noise", "apply_population_normalization", "caffe_average", "cumulative_average", "debiased_moving_average",
    "decayed_sums", "fold_batch_normalization", "freeze_batch_normalization", "gomlx_average",
    "get_batch_normalization_updates", "moving_average", "overwrite", "population_gap", "puzzlelib_average",
    "recompute_population_statistics", "reset_population_statistics",
]  # fmt: skip

guard_all(globals(), __all__)
