# Two images from one file:
#   docker build --target service -t gradkeel-service .
#   docker build --target worker  -t gradkeel-worker  .
# Which build of torch the worker gets is an argument: by default what the package index gives for this platform
# (on x86-64 Linux several GB of CUDA libraries). For the CPU build, name the index that PyTorch's installation
# page gives for it: --build-arg TORCH_INDEX=<address> --build-arg TORCH=torch==2.13.0+cpu
ARG PYTHON=3.12

FROM python:${PYTHON}-slim AS base
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 ORT_DISABLE_TELEMETRY=1 \
    GRADKEEL_DATA=/var/lib/gradkeel
# One user for both images: they share the folder of objects.
RUN groupadd --gid 10001 gradkeel \
 && useradd --uid 10001 --gid gradkeel --no-create-home --home-dir /var/lib/gradkeel --shell /usr/sbin/nologin gradkeel \
 && install -d -o gradkeel -g gradkeel -m 0700 /var/lib/gradkeel
WORKDIR /src

FROM base AS source
COPY pyproject.toml constraints.txt README.md CHANGELOG.md ./
COPY client client
COPY store store
COPY service service
COPY worker worker

FROM base AS service
RUN --mount=from=source,source=/src,target=/src,rw \
    pip install -c constraints.txt '.[service]'
COPY --chmod=0755 deploy/worker_health.py /usr/local/bin/gradkeel-worker-health
WORKDIR /var/lib/gradkeel
USER gradkeel
VOLUME /var/lib/gradkeel
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8080/healthz', timeout=4).close()"]
CMD ["gradkeel", "serve", "--host", "0.0.0.0", "--port", "8080"]

FROM base AS worker
ARG TORCH=torch
ARG TORCH_INDEX=
RUN --mount=from=source,source=/src,target=/src,rw \
    pip install -c constraints.txt ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} "$TORCH" '.[worker]'
COPY --chmod=0755 deploy/worker_health.py /usr/local/bin/gradkeel-worker-health
WORKDIR /var/lib/gradkeel
USER gradkeel
VOLUME /var/lib/gradkeel
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=20s --timeout=15s --start-period=60s --retries=3 \
    CMD ["python", "/usr/local/bin/gradkeel-worker-health"]
CMD ["gradkeel", "worker"]
