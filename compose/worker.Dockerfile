# The worker's image. Build it from the top of the repository:
#   docker build -f compose/worker.Dockerfile -t broker-bridge-worker .
ARG PYTHON=python:3.11.13-slim-bookworm

FROM ${PYTHON} AS build
WORKDIR /src
RUN python -m venv /opt/broker-bridge
COPY pyproject.toml constraints.txt README.md ./
COPY broker_bridge ./broker_bridge
COPY docs/runbooks ./docs/runbooks
# The versions of constraints.txt, which are those the tests ran with, hold for the build tools too.
RUN PIP_CONSTRAINT=constraints.txt /opt/broker-bridge/bin/pip install --no-cache-dir --no-compile '.[speed]'

FROM ${PYTHON} AS worker
COPY --from=build /opt/broker-bridge /opt/broker-bridge
ENV PATH=/opt/broker-bridge/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    BROKER_BRIDGE_HEALTH__LISTEN=0.0.0.0:8080
USER 10001:10001
WORKDIR /etc/broker-bridge
EXPOSE 8080
STOPSIGNAL SIGTERM
# A worker that waits for Kafka or Redis is alive: this asks whether its loop still turns, not whether all is well.
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s --retries=3 \
  CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8080/health/live', timeout=4)"]
ENTRYPOINT ["broker-bridge"]
CMD ["worker", "run", "--config", "/etc/broker-bridge/bridge.toml"]
