"""The machinery on one machine: a supervisor process that owns Valkey, the scheduler and a worker.

Commands start it or join it (`client.join`); it is the same code as `corpusmill up`. Whoever looks at a job keeps a
connection open: a job that nobody looks at, and that was not handed over with `--detach`, is paused.
"""
