# One image for every corpusmill process; docker-compose.yml says which one a container runs.
# In production pin the base by digest: FROM python:3.13-slim@sha256:…
FROM python:3.13-slim AS build

WORKDIR /src
RUN python -m venv /opt/corpusmill
COPY requirements.lock pyproject.toml README.md LICENSE ./
COPY corpusmill corpusmill
COPY workers workers
COPY tasks tasks
COPY scheduler scheduler
COPY migrations migrations
# The lock also pins the tools of development: it constrains here, and only what is needed is installed.
RUN sed -e 's/ \\$//' -e '/--hash=/d' requirements.lock > constraints.txt \
    && /opt/corpusmill/bin/pip install --no-cache-dir --constraint constraints.txt '.[postgres,pgvector,parquet]'

FROM python:3.13-slim

RUN useradd --system --uid 10001 --create-home --home-dir /var/lib/corpusmill corpusmill \
    && install -d -o corpusmill -g corpusmill -m 0700 /var/lib/corpusmill/state
COPY --from=build /opt/corpusmill /opt/corpusmill
ENV PATH=/opt/corpusmill/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    CORPUSMILL_HOME=/var/lib/corpusmill/state
USER corpusmill
WORKDIR /var/lib/corpusmill
VOLUME /var/lib/corpusmill/state
ENTRYPOINT ["corpusmill"]
CMD ["--help"]
