# A worker without a GPU: GGUF models on the CPU, classifiers in ONNX Runtime, endpoints elsewhere. The library is built for any x86-64 CPU with AVX2, not for the building machine.
#   docker build -f docker/worker-cpu.Dockerfile -t batchyard/worker-cpu .
ARG PYTHON=3.11-slim-bookworm

FROM python:${PYTHON} AS build
RUN apt-get update \
 && apt-get install -y --no-install-recommends build-essential \
 && rm -rf /var/lib/apt/lists/*
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH
WORKDIR /build
COPY pyproject.toml constraints.txt ./
COPY docker/requirements.py docker/
# AMX stays off: that build dies on quantised models as soon as a batch has more than one row.
ARG CPU_FLAGS="-DGGML_NATIVE=OFF -DGGML_SSE42=ON -DGGML_AVX=ON -DGGML_AVX2=ON -DGGML_FMA=ON -DGGML_F16C=ON -DGGML_BMI2=ON -DGGML_AMX_TILE=OFF -DGGML_AMX_INT8=OFF -DGGML_AMX_BF16=OFF"
ARG BUILD_JOBS=2
# In a layer of its own: it takes minutes, and changes with constraints.txt only.
RUN CMAKE_ARGS="${CPU_FLAGS}" CMAKE_BUILD_PARALLEL_LEVEL="${BUILD_JOBS}" \
    pip install --no-deps --no-binary llama-cpp-python \
    "$(grep '^llama-cpp-python==' constraints.txt)"
RUN python docker/requirements.py worker remote onnx > requirements.txt \
 && pip install --constraint constraints.txt --requirement requirements.txt

FROM python:${PYTHON}
# libgomp: llama.cpp's threads
RUN apt-get update \
 && apt-get install -y --no-install-recommends libgomp1 \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --system --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin batchyard
COPY --from=build /opt/venv /opt/venv
WORKDIR /app
COPY batchyard batchyard
COPY workers workers
COPY configs configs
COPY models models
COPY docker/healthcheck.py docker/
ENV PATH=/opt/venv/bin:$PATH PYTHONPATH=/app PYTHONUNBUFFERED=1 HOME=/tmp
RUN python -m compileall -q /app
USER 10001:10001
CMD ["python", "-m", "workers", "--model", "defect_detect", "--gpu", "none"]
