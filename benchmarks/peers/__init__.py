"""`runnable` beside its peers: the same work in each, in turn, in environments of their own."""
