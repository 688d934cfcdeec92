"""Layers in the manner of Blocks: roles, filters, computation graphs, and the layers themselves."""

from minigraph.functions.function import reviews
from minigraph.layers.activations import Elu, Gelu, LeakyRectifier, Logistic, Rectifier, Silu, Softmax, Softplus, Tanh
from minigraph.layers.convolution import (
    AveragePooling,
    Convolutional,
    ConvolutionalSequence,
    ConvolutionalTranspose,
    Flattener,
    GlobalAveragePooling,
    MaxPooling,
)
from minigraph.layers.core import roles
from minigraph.layers.core.application import Application, ApplicationCall, application, get_application_call
from minigraph.layers.core.base import Layer
from minigraph.layers.core.computation_graph import ComputationGraph
from minigraph.layers.core.filter import VariableFilter
from minigraph.layers.core.initialization import (
    Constant,
    Glorot,
    He,
    Initializer,
    IsotropicGaussian,
    Orthogonal,
    Sparse,
    Uniform,
)
from minigraph.layers.core.initialization import Identity as IdentityInitializer
from minigraph.layers.core.modes import is_in_training, training, untrained
from minigraph.layers.core.roles import add_role, has_roles, with_auxiliary
from minigraph.layers.core.tree import find_layers, get_layer, get_parameters
from minigraph.layers.core.values import get_parameter_values, set_parameter_values
from minigraph.layers.forgotten import warn_of_forgotten_population, warn_of_forgotten_training
from minigraph.layers.linear import Bias, Identity, Linear
from minigraph.layers.mlp import MLP, BatchNormalizedMLP, Sequence
from minigraph.layers.noise import Dropout
from minigraph.layers.normalization.apply_options import Freeze
from minigraph.layers.normalization.batch import BatchNormalization, SpatialBatchNormalization, batch_normalization
from minigraph.layers.normalization.population import PopulationNormalization
from minigraph.layers.normalization.renormalization import BatchRenormalization
from minigraph.layers.normalization.sample import (
    GroupNormalization,
    InstanceNormalization,
    LayerNormalization,
    RMSNormalization,
)
from minigraph.layers.recurrent.cells import GRU, LSTM, BatchNormalizedLSTM, SimpleRecurrent
from minigraph.layers.recurrent.driver import Recurrent, recurrent
from minigraph.layers.recurrent.stacks import Bidirectional, RecurrentStack
from minigraph.layers.weight_normalization import WeightNormalizedLinear

__all__ = [
    "Application", "ApplicationCall", "AveragePooling", "BatchNormalization", "BatchNormalizedLSTM", "BatchNormalizedMLP",
    "BatchRenormalization", "Bias", "Bidirectional", "ComputationGraph", "Constant", "Convolutional", "ConvolutionalSequence",
    "ConvolutionalTranspose", "Dropout", "Elu", "Flattener", "Freeze", "GRU", "Gelu", "GlobalAveragePooling", "Glorot", "He",
    "GroupNormalization", "Identity", "IdentityInitializer", "Initializer", "InstanceNormalization", "IsotropicGaussian",
    "LSTM", "Layer", "LayerNormalization", "LeakyRectifier", "Linear", "Logistic", "MLP", "MaxPooling", "Orthogonal",
    "PopulationNormalization", "RMSNormalization", "Rectifier", "Recurrent", "RecurrentStack", "Sequence", "Silu",
    "SimpleRecurrent", "Softmax", "Softplus", "Sparse", "SpatialBatchNormalization", "Tanh", "Uniform", "VariableFilter",
    "WeightNormalizedLinear", "add_role", "application", "batch_normalization", "find_layers", "get_application_call",
    "get_layer", "get_parameter_values", "get_parameters", "has_roles", "is_in_training", "recurrent", "roles",
    "set_parameter_values", "training", "untrained", "with_auxiliary",
]  # fmt: skip

reviews.extend((warn_of_forgotten_population, warn_of_forgotten_training))
