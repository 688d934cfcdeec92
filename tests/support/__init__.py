"""What tests share: backends, layers, comparisons, generators, the op table, and a GPU that is none."""
