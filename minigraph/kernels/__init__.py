"""From graphs of known sizes to machine code: scalars, loop nests and their printer, fusion, programs, threads, BLAS."""
