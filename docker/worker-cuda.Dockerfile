# A worker on an NVIDIA GPU. CUDA 12.9 is the last toolkit that builds for Pascal (compute capability 6.1,
# Tesla P40) and driver branch R580 the last that runs it; it also builds for everything up to Blackwell.
#   docker build -f docker/worker-cuda.Dockerfile -t batchyard/worker-cuda .
#   … --build-arg CUDA_ARCHITECTURES=61-real     for P40s alone: a fraction of the time and of the size
ARG CUDA=12.9.1
ARG UBUNTU=24.04

FROM nvidia/cuda:${CUDA}-devel-ubuntu${UBUNTU} AS build
RUN apt-get update \
 && apt-get install -y --no-install-recommends build-essential python3 python3-dev python3-venv \
 && rm -rf /var/lib/apt/lists/*
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python3 -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH
WORKDIR /build
COPY pyproject.toml constraints.txt ./
COPY docker/requirements.py docker/
# Machine code for each kind of GPU and no PTX: nothing is compiled when a worker starts.
ARG CUDA_ARCHITECTURES="61-real;70-real;75-real;80-real;86-real;89-real;90-real;120-real"
ARG CPU_FLAGS="-DGGML_NATIVE=OFF -DGGML_SSE42=ON -DGGML_AVX=ON -DGGML_AVX2=ON -DGGML_FMA=ON -DGGML_F16C=ON -DGGML_BMI2=ON -DGGML_AMX_TILE=OFF -DGGML_AMX_INT8=OFF -DGGML_AMX_BF16=OFF"
ARG BUILD_JOBS=2
# The linker flag: libcuda.so.1 belongs to the driver and is not there while an image is built.
RUN CMAKE_ARGS="-DGGML_CUDA=on '-DCMAKE_CUDA_ARCHITECTURES=${CUDA_ARCHITECTURES}' -DCMAKE_EXE_LINKER_FLAGS=-Wl,--allow-shlib-undefined ${CPU_FLAGS}" \
    CMAKE_BUILD_PARALLEL_LEVEL="${BUILD_JOBS}" \
    pip install --no-deps --no-binary llama-cpp-python \
    "$(grep '^llama-cpp-python==' constraints.txt)"
RUN python docker/requirements.py worker > requirements.txt \
 && pip install --constraint constraints.txt --requirement requirements.txt

FROM nvidia/cuda:${CUDA}-runtime-ubuntu${UBUNTU}
RUN apt-get update \
 && apt-get install -y --no-install-recommends libgomp1 python3 \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --system --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin batchyard \
 && install -d -o batchyard -g batchyard /var/lib/batchyard/locks
COPY --from=build /opt/venv /opt/venv
WORKDIR /app
COPY batchyard batchyard
COPY workers workers
COPY configs configs
COPY models models
COPY docker/healthcheck.py docker/
# utility: NVML, through which the worker chooses and checks its GPU
ENV PATH=/opt/venv/bin:$PATH PYTHONPATH=/app PYTHONUNBUFFERED=1 HOME=/tmp \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility BATCHYARD_LOCKS=/var/lib/batchyard/locks
RUN python -m compileall -q /app
USER 10001:10001
CMD ["python", "-m", "workers", "--model", "defect_detect", "--gpu", "0"]
