"""Numbers in, numbers out: the algorithms, without derivatives and without checks."""
