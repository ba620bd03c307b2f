# The router, the auditor, the command line and Flower: no llama.cpp inside.
#   docker build -f docker/router.Dockerfile -t batchyard/router .
ARG PYTHON=3.11-slim-bookworm

FROM python:${PYTHON} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH
WORKDIR /build
COPY pyproject.toml constraints.txt ./
COPY docker/requirements.py docker/
# Flower comes without the rest of the extra `local`, which carries a Redis of its own.
RUN python docker/requirements.py router audit audit-postgresql > requirements.txt \
 && echo "flower>=2.0.1" >> requirements.txt \
 && pip install --constraint constraints.txt --requirement requirements.txt

FROM python:${PYTHON}
RUN useradd --system --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin batchyard
COPY --from=build /opt/venv /opt/venv
WORKDIR /app
COPY batchyard batchyard
COPY router router
COPY configs configs
COPY models models
COPY docker/healthcheck.py docker/flower_server.py docker/
ENV PATH=/opt/venv/bin:$PATH PYTHONPATH=/app PYTHONUNBUFFERED=1 HOME=/tmp
# A new volume takes owner and mode from here.
RUN install -d -m 700 -o batchyard -g batchyard /var/lib/batchyard/audit
ENV BATCHYARD_AUDIT_URL=sqlite:////var/lib/batchyard/audit/audit.db
# The root file system is read-only at run time, so the bytecode is made now.
RUN python -m compileall -q /app
USER 10001:10001
CMD ["python", "-m", "router", "worker"]
