"""The operations. Modules import from those before them in this order:

elementwise, transcendental, special, reduction, shape, indexing, activation, linear, crossentropy, normalization,
random, control.
"""
