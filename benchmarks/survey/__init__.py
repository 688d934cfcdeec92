"""A survey of speed: many small cases, each written once, in every framework that can do it."""
