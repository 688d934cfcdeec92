"""Files: state of layers, written and read, whole or not at all."""

from minigraph.core.guard import guard_all
from minigraph.files.checkpoint import load, save
from minigraph.files.contents import Contents
from minigraph.files.describe import describe
from minigraph.files.functions import load_function
from minigraph.files.graph_json import register_op
from minigraph.files.reading import read

__all__ = ["Contents", "describe", "load", "load_function", "read", "register_op", "save"]

guard_all(globals(), __all__)
