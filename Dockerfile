# The server. Build arguments:
#   PIP_EXTRA_INDEX_URL  a further package index, such as PyTorch's own one of CPU builds, for a far smaller image
FROM python:3.11-slim AS dependencies
ARG PIP_EXTRA_INDEX_URL=""
ENV PIP_EXTRA_INDEX_URL=${PIP_EXTRA_INDEX_URL} PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/statecast
WORKDIR /src
# The dependencies first: they change less often than the code.
COPY pyproject.toml constraints.txt README.md LICENSE ./
RUN mkdir -p proto/statecast model/statecast service/statecast client/statecast \
 && /opt/statecast/bin/pip install -c constraints.txt '.[server,kernels,tracing]' \
 && /opt/statecast/bin/pip uninstall -y statecast

FROM dependencies AS build
COPY proto proto
COPY model model
COPY service service
COPY client client
RUN /opt/statecast/bin/pip install --no-deps .
# Kernels for any x86 processor with AVX2; on others, a server compiles its own.
ENV NUMBA_CPU_NAME=haswell NUMBA_CPU_FEATURES=+avx2,+fma,+bmi,+bmi2,+f16c,+lzcnt,+popcnt,+sse4.2
RUN if [ "$(uname -m)" = x86_64 ]; then \
      /opt/statecast/bin/python -c 'from statecast.model.kernels.cache import install; install()'; \
    fi
RUN mkdir /code && cd / && cp -a --parents opt/statecast/bin/statecast opt/statecast/lib/python3*/site-packages/statecast* /code

FROM python:3.11-slim
# A layer for the dependencies and one for the code: an upgrade that changes the code alone transfers some megabytes.
COPY --from=dependencies /opt/statecast /opt/statecast
COPY --from=build /code /
RUN mkdir /data /models && chown 10001:10001 /data /models
ENV PATH=/opt/statecast/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 \
    STATECAST_HOST=0.0.0.0 STATECAST_METRICS_HOST=0.0.0.0 STATECAST_DATA_DIR=/data \
    STATECAST_KERNEL_CACHE=/tmp/statecast-kernels \
    NUMBA_CPU_NAME=haswell NUMBA_CPU_FEATURES=+avx2,+fma,+bmi,+bmi2,+f16c,+lzcnt,+popcnt,+sse4.2
USER 10001:10001
VOLUME /data
EXPOSE 50051 9464
HEALTHCHECK --interval=5s --timeout=5s --start-period=60s --retries=3 CMD ["statecast", "health"]
ENTRYPOINT ["statecast"]
CMD ["serve"]
