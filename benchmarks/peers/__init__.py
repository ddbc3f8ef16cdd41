"""Other clients on the same work: a short program of ours for each, run by the Python that the client lives in."""
