"""Batch normalization in the manner of other systems, one module for each, and conversions between what they store.

The layers share one implementation; a module states a system's names, defaults, initial values, axes, errors, switches, and the
rule by which its averages follow. Layers are in inference mode unless built under `batch_normalization(...)`, like all others.
"""

from minigraph.layers.conventions import BLOCKS, Convention, InverseStdev, Stdev, Variance
from minigraph.layers.dialects import caffe, gomlx, keras, lasagne, onnx, puzzlelib, theano, torch
from minigraph.layers.dialects.caffe import CAFFE
from minigraph.layers.dialects.convert import convert, convert_model, from_list, to_list
from minigraph.layers.dialects.gomlx import GOMLX
from minigraph.layers.dialects.keras import KERAS
from minigraph.layers.dialects.lasagne import LASAGNE
from minigraph.layers.dialects.onnx import ONNX
from minigraph.layers.dialects.puzzlelib import PUZZLELIB
from minigraph.layers.dialects.theano import THEANO
from minigraph.layers.dialects.torch import PYTORCH, TORCH7, TORCH7_VERSION_1

CONVENTIONS = (BLOCKS, LASAGNE, THEANO, TORCH7, TORCH7_VERSION_1, PYTORCH, CAFFE, PUZZLELIB, GOMLX, KERAS, ONNX)

__all__ = [
    "BLOCKS",
    "CAFFE",
    "CONVENTIONS",
    "Convention",
    "GOMLX",
    "InverseStdev",
    "KERAS",
    "LASAGNE",
    "ONNX",
    "PUZZLELIB",
    "PYTORCH",
    "Stdev",
    "THEANO",
    "TORCH7",
    "TORCH7_VERSION_1",
    "Variance",
    "caffe",
    "convert",
    "convert_model",
    "from_list",
    "gomlx",
    "keras",
    "lasagne",
    "onnx",
    "puzzlelib",
    "theano",
    "to_list",
    "torch",
]
