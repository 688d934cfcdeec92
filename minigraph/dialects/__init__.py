"""Batch normalization in the manner of other systems, one module for each, and conversions between their arrays.

The layers share one implementation; a module states a system's names, defaults, initial values, axes, errors, switches, and the
rule by which its averages follow. Layers are in inference mode unless built under `batch_normalization(...)`, like all others.
"""

from minigraph.core.guard import guard_all
from minigraph.dialects import caffe, gomlx, keras, lasagne, onnx, puzzlelib, theano, torch
from minigraph.dialects.caffe import CAFFE
from minigraph.dialects.convert import convert, convert_model, from_list, to_list
from minigraph.dialects.gomlx import GOMLX
from minigraph.dialects.keras import KERAS
from minigraph.dialects.lasagne import LASAGNE
from minigraph.dialects.onnx import ONNX
from minigraph.dialects.puzzlelib import PUZZLELIB
from minigraph.dialects.theano import THEANO
from minigraph.dialects.torch import PYTORCH, TORCH7, TORCH7_VERSION_1
from minigraph.layers.normalization.conventions import BLOCKS, Convention, InverseStdev, Stdev, Variance

CONVENTIONS = (BLOCKS, LASAGNE, THEANO, TORCH7, TORCH7_VERSION_1, PYTORCH, CAFFE, PUZZLELIB, GOMLX, KERAS, ONNX)

__all__ = [
    "BLOCKS", "CAFFE", "CONVENTIONS", "Convention", "GOMLX", "InverseStdev", "KERAS", "LASAGNE", "ONNX", "PUZZLELIB", "PYTORCH",
    "Stdev", "THEANO", "TORCH7", "TORCH7_VERSION_1", "Variance", "caffe", "convert", "convert_model", "from_list", "gomlx",
    "keras", "lasagne", "onnx", "puzzlelib", "theano", "to_list", "torch",
]  # fmt: skip

guard_all(globals(), __all__)
