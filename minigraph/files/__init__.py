"""Files: state of layers, written and read, whole or not at all."""

from minigraph.core.guard import guard_all
from minigraph.files.checkpoint import load, read, save
from minigraph.files.contents import Contents

__all__ = ["Contents", "load", "read", "save"]

guard_all(globals(), __all__)
