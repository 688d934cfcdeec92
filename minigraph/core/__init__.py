"""The foundation of everything else: errors, state, types, the graph and the walks over it."""
