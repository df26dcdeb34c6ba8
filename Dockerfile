# Two images, from the root of the project:
#
#   docker build --target tunnel --tag handfast-tunnel .
#   docker build --target operator --tag handfast-operator .
#
# scripts/native-wheel, before, gives the tunnel its compiled data plane; without it, it has the one in Python.
#
# The tunnel needs NET_ADMIN and /dev/net/tun; see docs/cluster.md. The operator runs as nobody in particular, with
# no capabilities. Both with a read-only root, so everything is compiled here.
ARG BASE=docker.io/library/debian:bookworm-slim

FROM ${BASE} AS build
ENV UV_PYTHON_DOWNLOADS=never UV_LINK_MODE=copy UV_NO_CACHE=1 UV_PROJECT_ENVIRONMENT=/opt/handfast UV_SYSTEM_CERTS=1 \
    UV_PYTHON=/usr/bin/python3 PATH=/uv/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
RUN apt-get update && \
    apt-get install --yes --no-install-recommends ca-certificates python3 python3-pip python3-venv
COPY scripts/pins /pins
RUN python3 -m venv --system-site-packages /uv && \
    python -m pip install --no-cache-dir "uv==$(awk '$1 == "uv" { print $2 }' /pins)"
COPY scripts/image/slim-libraries /usr/local/bin/
WORKDIR /project
COPY pyproject.toml uv.lock ./

FROM build AS tunnel-build
RUN uv sync --frozen --no-dev --extra pod --no-install-project && slim-libraries
COPY README.md LICENSE CHANGELOG.md ./
COPY tunnel tunnel
RUN uv sync --frozen --no-dev --extra pod --no-editable --compile-bytecode
# The compiled data plane, where scripts/native-wheel was run, on a system no newer than this one.
COPY scripts/image/wheels /wheels
RUN find /wheels -name '*.whl' -exec uv pip install --no-deps --compile-bytecode --python /opt/handfast {} +

FROM build AS operator-build
RUN uv sync --frozen --no-dev --extra operator --no-install-project && slim-libraries
COPY README.md LICENSE CHANGELOG.md ./
COPY tunnel tunnel
COPY operator operator
RUN uv sync --frozen --no-dev --extra operator --no-editable --compile-bytecode

# One layer each, as a layer on top removes nothing from those below.
FROM ${BASE} AS tunnel-system
COPY scripts/image/slim-system /
RUN apt-get update && \
    apt-get install --yes --no-install-recommends nftables python3 wireguard-tools && \
    /slim-system

FROM ${BASE} AS operator-system
COPY scripts/image/slim-system /
RUN apt-get update && \
    apt-get install --yes --no-install-recommends python3 && \
    /slim-system

FROM scratch AS tunnel
COPY --from=tunnel-system / /
COPY --from=tunnel-build /opt/handfast /opt/handfast
ENV PATH=/opt/handfast/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
ENTRYPOINT ["handfast-tunnel"]

FROM scratch AS operator
COPY --from=operator-system / /
COPY --from=operator-build /opt/handfast /opt/handfast
ENV PATH=/opt/handfast/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
USER 65532:65532
ENTRYPOINT ["handfast-operator"]
