# One image for the init container and the sidecar: understudy, on top of the backup
# tool of the server's series.
#
#   docker build --build-arg BASE=mariadb:10.11 -t understudy:mariadb-10.11 .
#   docker build --build-arg BASE=percona/percona-xtrabackup:8.4 -t understudy:xtrabackup-8.4 .
#   docker build --build-arg BASE=scratch -t understudy:none .    nothing but our binary
ARG GO_IMAGE=golang:1.26
ARG BASE=mariadb:10.11

FROM ${GO_IMAGE} AS build
# Where modules come from; empty: Go's defaults.
ARG GOPROXY
ARG GOFLAGS
ARG VERSION=dev
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
# -buildvcs=false: the context has no history; VERSION says what this is.
RUN CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags "-s -w -X main.version=${VERSION}" -o /out/understudy ./cmd/understudy

FROM ${BASE}
ARG BASE
ARG VERSION=dev
ARG REVISION=unknown
ARG SOURCE=
# All that a base may say of itself is said anew.
LABEL org.opencontainers.image.title="understudy" \
      org.opencontainers.image.description="Replication sidecar for MySQL and MariaDB in a StatefulSet" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.source="${SOURCE}" \
      org.opencontainers.image.url="${SOURCE}" \
      org.opencontainers.image.documentation="${SOURCE}" \
      org.opencontainers.image.authors="The understudy authors" \
      org.opencontainers.image.vendor="understudy" \
      org.opencontainers.image.base.name="${BASE}"
COPY --from=build /out/understudy /usr/local/bin/understudy
# Clones; health and metrics.
EXPOSE 3307 9307
# The server's account in the official images, whose files it reads and writes.
USER 999:999
# The whole path: an image made from scratch has no PATH.
ENTRYPOINT ["/usr/local/bin/understudy"]
# Not the base's: that would be the server.
CMD ["help"]
