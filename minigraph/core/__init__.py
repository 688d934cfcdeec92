"""What everything else stands on: errors, state, types, the graph and the walks over it."""
