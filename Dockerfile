# docker build -t twilio-operations-exporter:0.2.0 --build-arg VERSION=0.2.0 \
#   --build-arg REVISION=$(git rev-parse HEAD) --build-arg BUILD_DATE=$(git log -1 --format=%cI) .
#
# Bases are pinned by the digest of their index, which has all platforms. To renew one,
# here and in Dockerfile.release, with the tag that is current by then:
#   docker buildx imagetools inspect docker.io/library/golang:1.26.9
FROM --platform=$BUILDPLATFORM docker.io/library/golang:1.26.9@sha256:f1f0bcc2c524a3ced375fcb4d1ecb7aa371aa7070e112599aaca45cc02d0101b AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG TARGETOS
ARG TARGETARCH
ARG VERSION=unknown
ARG REVISION=unknown
ARG BRANCH=unknown
ARG BUILD_DATE=unknown
RUN CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH go build -trimpath -o /twilio_operations_exporter -ldflags "-s -w \
    -X github.com/prometheus/common/version.Version=$VERSION \
    -X github.com/prometheus/common/version.Revision=$REVISION \
    -X github.com/prometheus/common/version.Branch=$BRANCH \
    -X github.com/prometheus/common/version.BuildUser=docker \
    -X github.com/prometheus/common/version.BuildDate=$BUILD_DATE" .

# CA certificates, zone data and the user nonroot, and no shell.
FROM gcr.io/distroless/static-debian13:nonroot@sha256:e2e927ec666bae08560abb3c55d0659eceabb657f56b6782ab500a9fc7f555e3
COPY --from=build /twilio_operations_exporter /usr/bin/twilio_operations_exporter
ARG VERSION=unknown
ARG REVISION=unknown
ARG BUILD_DATE=unknown
LABEL org.opencontainers.image.title=twilio_operations_exporter
LABEL org.opencontainers.image.description="Prometheus exporter for Twilio's message operations"
LABEL org.opencontainers.image.licenses=Apache-2.0
LABEL org.opencontainers.image.version=$VERSION
LABEL org.opencontainers.image.revision=$REVISION
LABEL org.opencontainers.image.created=$BUILD_DATE
COPY LICENSE /usr/share/doc/twilio_operations_exporter/LICENSE
# By number: Kubernetes cannot tell that a name is not root.
USER 65532:65532
EXPOSE 9861
# There is no shell, so the program asks itself. With another port, or with TLS or a
# password and --web.health-listen-address, give the address after it.
HEALTHCHECK --interval=30s --timeout=5s --start-period=10s --retries=3 CMD ["/usr/bin/twilio_operations_exporter", "healthcheck"]
ENTRYPOINT ["/usr/bin/twilio_operations_exporter"]
