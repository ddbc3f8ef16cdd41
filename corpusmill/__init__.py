"""The library that every corpusmill process shares."""
