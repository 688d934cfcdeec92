"""The operations. Modules import from those before them in this order:

noted, elementwise, requirement, comparison, arithmetic, transcendental, special, shape, creation, reduction, indexing,
arranging, activation, linear, linalg, crossentropy, normalization, control, random, loop, asked, loop_updates, loop_gradient,
scanning, windows, convolution, pooling.
"""
