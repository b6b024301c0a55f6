# The BIDS App. Build it in the root of a checkout:
#   docker build -t blmm-bids .
#   docker build -t blmm-bids --build-arg TEMPLATES=none .     where templateflow.org cannot be reached
# Run it as any user, its root file system read-only if you like:
#   docker run --rm --user "$(id -u):$(id -g)" -v /data:/data:ro -v /results:/results \
#     blmm-bids /data /results group --model /data/model.json

# For a build that can be repeated to the byte, name a digest: --build-arg BASE=debian:bookworm-slim@sha256:...
ARG BASE=docker.io/library/debian:bookworm-slim

FROM ${BASE} AS python
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3 \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/apt /var/log/dpkg.log
# Compiled kernels come from here; see blmm_bids/stats/kernels/prebuilt.py.
ENV BLMM_KERNEL_CACHE=/opt/blmm/kernels \
    TEMPLATEFLOW_HOME=/opt/templateflow \
    TEMPLATEFLOW_AUTOUPDATE=off

FROM python AS build
RUN apt-get update && apt-get install -y --no-install-recommends python3-venv
WORKDIR /src
COPY containers/install.sh containers/
COPY requirements/lock.txt requirements/
RUN sh containers/install.sh dependencies

FROM build AS templates
ARG TEMPLATES="MNI152NLin2009cAsym MNI152NLin6Asym"
RUN sh containers/install.sh templates "${TEMPLATES}"

FROM build AS package
COPY pyproject.toml README.md LICENSE ./
COPY blmm_bids blmm_bids
RUN sh containers/install.sh package

FROM python
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="blmm-bids" \
      org.opencontainers.image.description="BIDS App: a linear mixed model at every voxel" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.base.name="docker.io/library/debian:bookworm-slim"
COPY --from=templates /opt/templateflow /opt/templateflow
COPY --from=package /opt/blmm /opt/blmm
# Where a login shell finds them too: Boutiques starts the app from one.
RUN ln -s /opt/blmm/bin/blmm-* /usr/local/bin/
# Matplotlib wants a folder of its own, and the home of whoever runs this may not be one.
ENV LC_ALL=C.UTF-8 \
    MPLCONFIGDIR=/tmp/matplotlib \
    BLMM_CONTAINER=blmm-bids:${VERSION}
# Writable where the root file system is not.
VOLUME /tmp
ENTRYPOINT ["blmm-bids"]
CMD ["--help"]
