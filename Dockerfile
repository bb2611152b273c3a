# Two images: `--target gateway` (the API and the ledger, small) and `--target worker` (SGLang).
# Builds with BuildKit and with the classic builder, so it uses no cache mounts: instead the
# dependencies are a layer of their own, rebuilt only when they change, and a change of code
# replaces a last, small layer.

FROM python:3.11-slim AS base
# Packages come over TLS as the base image's certificates vouch for it, a company's own included.
ENV UV_SYSTEM_CERTS=1 UV_NO_CACHE=1
RUN python -m pip install --no-cache-dir --disable-pip-version-check uv==0.13.8
# Nothing here runs as root. HOME is the one folder that the commands write to.
RUN useradd --uid 10001 --create-home --home-dir /var/lib/niyama niyama
ENV HOME=/var/lib/niyama PATH=/opt/niyama/bin:$PATH VIRTUAL_ENV=/opt/niyama
RUN uv venv --quiet "$VIRTUAL_ENV"

# What each image installs, apart from the rest of pyproject.toml, which changes more often.
FROM base AS requirements
WORKDIR /src
COPY pyproject.toml .
RUN python -c 'import pathlib, tomllib; \
project = tomllib.loads(pathlib.Path("pyproject.toml").read_text())["project"]; \
[pathlib.Path(extra + ".txt").write_text("\n".join( \
    project["dependencies"] + project["optional-dependencies"][extra])) \
 for extra in ("gateway", "worker")]'

FROM base AS wheel
WORKDIR /src
COPY . .
RUN uv build --quiet --wheel

FROM base AS gateway
COPY --from=requirements /src/gateway.txt /tmp/requirements/
COPY constraints.txt /tmp/requirements/
RUN uv pip install --quiet --compile-bytecode -c /tmp/requirements/constraints.txt -r /tmp/requirements/gateway.txt
COPY --from=wheel /src/dist /tmp/dist
RUN uv pip install --quiet --compile-bytecode --no-deps /tmp/dist/*.whl
USER niyama
WORKDIR /var/lib/niyama
ENTRYPOINT ["niyama"]
CMD ["gateway"]

FROM base AS worker
# On a GPU, SGLang compiles kernels at their first use: g++ for the host's part, nvcc, which comes
# with the Python packages below, for the rest. libnuma keeps processes near their GPU.
RUN apt-get update \
 && apt-get install --yes --no-install-recommends g++ libnuma1 \
 && rm -rf /var/lib/apt/lists/*
COPY --from=requirements /src/worker.txt /tmp/requirements/
COPY constraints.txt /tmp/requirements/
RUN uv pip install --quiet --compile-bytecode -c /tmp/requirements/constraints.txt -r /tmp/requirements/worker.txt
# The compilers look for libraries as a CUDA installation names them, which the packages do not.
ENV CUDA_HOME=/opt/niyama/lib/python3.11/site-packages/nvidia/cu13
RUN ln -s lib "$CUDA_HOME/lib64" && cd "$CUDA_HOME/lib" \
 && for library in *.so.*; do ln -s "$library" "${library%%.so.*}.so"; done
COPY --from=wheel /src/dist /tmp/dist
RUN uv pip install --quiet --compile-bytecode --no-deps /tmp/dist/*.whl
USER niyama
WORKDIR /var/lib/niyama
ENTRYPOINT ["niyama"]
CMD ["worker"]
