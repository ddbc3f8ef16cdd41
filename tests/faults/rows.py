"""The table of faults: what breaks in each row that has a test. Tests carry `@pytest.mark.fault(row)`.

Without a test of their own yet: 3 (killed between commit and acknowledgement), 9 (half-open connections to the
queue), 35 (upgrade under load), 38 (a monitor that hangs), 39 (a long soak), 40 (output that cannot be written).
"""

ROWS = {
    1: "a worker is killed in the middle of shards",
    2: "a worker is killed between the reply and its commit",
    4: "SIGTERM under load",
    6: "the queue restarts and has lost everything",
    7: "the queue is flushed",
    8: "the queue stands still",
    10: "the queue refuses to write",
    12: "PostgreSQL restarts",
    13: "PostgreSQL stands still",
    14: "deadlocks and serialization failures",
    15: "the ledger's disk is full",
    16: "the journal's disk is full",
    17: "429 with and without Retry-After",
    19: "the account is empty",
    20: "one key of several is revoked",
    21: "the endpoint hangs, or drips",
    22: "replies under status 200 that are none",
    23: "answers that were cut, refused or filtered",
    24: "an item that kills its worker",
    25: "texts that break tokenizers: a million spaces, ten megabytes",
    26: "bad text: NUL, lone surrogates, invalid UTF-8",
    27: "the same command twice at once",
    28: "repeated ids, broken lines",
    29: "two schedulers",
    30: "a worker sleeps through its lease",
    31: "clocks jump",
    33: "a message is delivered twice at once",
    34: "hostile and foreign messages",
    36: "pause and cancel while it runs",
}
