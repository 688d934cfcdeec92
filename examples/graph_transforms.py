"""Look at graphs and change them: replace, training and inference, analysis with networkx."""

from __future__ import annotations

import argparse

import networkx
import numpy as np

import minigraph as mg
from minigraph.layers import BatchNormalizedMLP, Tanh
from minigraph.layers.core.roles import BATCH_NORM_OFFSET, DROPOUT, WEIGHT
from minigraph.transforms import (
    apply_batch_normalization,
    apply_dropout,
    apply_population_normalization,
    get_batch_normalization_updates,
)


def main(arguments: list[str] | None = None) -> None:
    """Build one network, and derive graphs from its graph."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backend", choices=["native", "numpy", "cupy"])
    backend = parser.parse_args(arguments).backend
    x = mg.matrix("x", shape=(None, 4))
    network = BatchNormalizedMLP([Tanh(), None], [4, 8, 3])
    inference = mg.ComputationGraph(network.apply(x))
    batch = np.random.default_rng(0).normal(5.0, 2.0, (16, 4)).astype("float32")

    # from inference to training and back
    training = apply_batch_normalization(inference)
    back = apply_population_normalization(training)
    print("round trip is the identity:", str(back) == str(inference))
    for name, graph in (("inference", inference), ("training", training)):
        values = mg.function([x], mg.Out(graph.outputs[0], host=True), backend=backend)(batch)
        print(f"{name:>9}: column means {np.round(values.mean(axis=0), 3)}")

    # the pairs are a function of the graph at hand: with a scaled input they show the statistics of the scaled input
    for graph in (training, training.replace({x: x * 10})):
        population, estimate = get_batch_normalization_updates(graph)[0]
        value = mg.function([x], mg.Out(estimate, host=True), backend=backend)(batch)
        print(f"{population} <-", np.round(value[:3], 3))

    # filters find variables by what they are; replace puts others in their place
    weights = mg.VariableFilter(roles=[WEIGHT])(inference.variables)
    offsets = mg.VariableFilter(roles=[BATCH_NORM_OFFSET])(training.variables)
    print(f"{len(weights)} weights, {len(offsets)} offsets in use")
    noisy = apply_dropout(training, weights, drop_prob=0.5)
    drops = mg.VariableFilter(roles=[DROPOUT])(noisy.variables)
    print(f"with dropout on the weights: {len(drops)} of them, {len(noisy.updates)} update of the random state")

    # any algorithm of networkx applies
    picture = inference.to_networkx()
    depth = networkx.dag_longest_path_length(picture)
    ops = [data["label"] for _, data in picture.nodes(data=True) if data["kind"] == "op"]
    print(f"{picture.number_of_nodes()} nodes, depth {depth}, {sum(label == 'MatMul' for label in ops)} matrix products")


if __name__ == "__main__":
    main()
