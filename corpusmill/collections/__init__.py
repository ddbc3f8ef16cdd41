"""Collections that stay current with their sources, and change their model, at the price of what is new.

A sync is an ordinary job over the chunks that have no vector yet; what readers see changes at one moment, when it is
finished.

Nothing is imported here: to write the vectors of a collection to a file takes none of what a sync needs.
"""
