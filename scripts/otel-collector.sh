#!/usr/bin/env bash
# Prints the path of an OpenTelemetry Collector that takes OTLP over HTTP and passes it on, likewise.
# Builds it first where it is missing: with Go, from the Go module proxy, in a few minutes.
set -euo pipefail
shopt -s inherit_errexit

VERSION=0.160.0
PROVIDERS_VERSION=1.66.0
HOME_DIR="${XDG_CACHE_HOME:-$HOME/.cache}/niyama/otelcol-$VERSION"

if [ -x "$HOME_DIR/otelcol" ]; then
    echo "$HOME_DIR/otelcol"
    exit
fi
if ! command -v go >/dev/null; then
    echo "the collector is built with Go: install it from https://go.dev/dl" >&2
    exit 1
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cat >"$work/builder.yaml" <<YAML
dist:
  name: otelcol
  output_path: $work/build
receivers:
  - gomod: go.opentelemetry.io/collector/receiver/otlpreceiver v$VERSION
exporters:
  - gomod: go.opentelemetry.io/collector/exporter/otlphttpexporter v$VERSION
providers:
  - gomod: go.opentelemetry.io/collector/confmap/provider/envprovider v$PROVIDERS_VERSION
  - gomod: go.opentelemetry.io/collector/confmap/provider/fileprovider v$PROVIDERS_VERSION
YAML
echo "building OpenTelemetry Collector $VERSION in $HOME_DIR (a few minutes, once)" >&2
GOBIN="$work/bin" go install "go.opentelemetry.io/collector/cmd/builder@v$VERSION" >&2
"$work/bin/builder" --config "$work/builder.yaml" >&2
mkdir -p "$HOME_DIR"
mv "$work/build/otelcol" "$HOME_DIR/otelcol.new"
mv "$HOME_DIR/otelcol.new" "$HOME_DIR/otelcol"
echo "$HOME_DIR/otelcol"
