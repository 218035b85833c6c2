"""One module a peer, each with a class `Contender`; imported by the peer's worker alone."""
