"""The same work in every framework. Each module offers `mlp_step`, `mlp_inference` and `micro`, which return a callable."""
