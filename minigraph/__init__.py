"""minigraph: array expressions written once, then differentiated, transformed, optimized and compiled."""

from minigraph import errors, layers, operators, testing, training, transforms
from minigraph.config import config
from minigraph.doctor import doctor
from minigraph.errors import *
from minigraph.function import Function, In, Memory, Out, Profile, Trace, Transfers, function
from minigraph.gradient import grad, hessian, hessian_vector_product, jacobian, jvp, vjp
from minigraph.graph import Graph, Variable, clone, constant, replace, shared, tensor
from minigraph.inputs import *
from minigraph.layers import batch_normalization, dialects
from minigraph.layers import training as training_mode
from minigraph.layers.computation_graph import ComputationGraph
from minigraph.layers.filter import VariableFilter
from minigraph.ops import linalg, random
from minigraph.ops.activation import *
from minigraph.ops.arithmetic import *
from minigraph.ops.arranging import *
from minigraph.ops.comparison import *
from minigraph.ops.control import *
from minigraph.ops.convolution import *
from minigraph.ops.creation import *
from minigraph.ops.crossentropy import *
from minigraph.ops.elementwise import *
from minigraph.ops.indexing import *
from minigraph.ops.linear import *
from minigraph.ops.normalization import *
from minigraph.ops.pooling import *
from minigraph.ops.reduction import *
from minigraph.ops.scanning import *
from minigraph.ops.shape import *
from minigraph.ops.special import *
from minigraph.ops.transcendental import *
from minigraph.ops.windows import *
from minigraph.printing import debugprint, pprint, to_dot, to_networkx, to_svg

__version__ = "0.1.0"
