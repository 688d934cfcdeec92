"""From a graph to what runs: regions, loop nests, programs, and the machines that run them."""
