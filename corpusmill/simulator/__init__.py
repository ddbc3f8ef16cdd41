"""An OpenAI-compatible endpoint on this machine: it enforces limits, keeps the bill, and misbehaves on demand.

The demo, the test double and the benchmark's other end. It knows nothing of corpusmill's client.

    options    what it is started with             limits       RPM and TPM, as OpenAI charges them
    faults     which request goes wrong, and how   errors       the error bodies
    asks       what a request asks for             completions, embeddings, streaming, schema   the answers
    bill       what was paid, and the counters     recorder     the last requests, for tests of the wire
    endpoint   one request in, one reply out       control      the routes under /simulator
    http       the bytes on the connection         server       starting and stopping
"""
