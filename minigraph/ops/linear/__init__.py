"""Products of matrices, linear algebra, convolution and pooling."""
