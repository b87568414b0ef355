#!/usr/bin/env bash
# Installs what Trueup needs and does not find. Quick when all is there; running it twice is harmless.
set -euo pipefail
cd "$(dirname "$0")/../.."
local_dir=${TRUEUP_LOCAL:-$PWD/.local}
mkdir -p "$local_dir"

say() { printf '→ %s\n' "$*"; }

# --- Debian packages -----------------------------------------------------------------------------------------------
packages=()
have() { command -v "$1" >/dev/null 2>&1; }
need() { have "$1" || packages+=("$2"); }
if [ "${STACK:-}" != docker ]; then
  compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || need initdb postgresql
  need redis-server redis-server
  need java openjdk-17-jdk-headless
  need mvn maven
fi
need kcat kcat
need wrk wrk
need npm npm
need go golang-go
need openssl openssl
need gcc build-essential
need pkg-config pkg-config
if have pkg-config; then pkg-config --exists openssl || packages+=(libssl-dev); else packages+=(libssl-dev); fi
[ -e /usr/include/zlib.h ] || packages+=(zlib1g-dev)

if [ ${#packages[@]} -gt 0 ]; then
  if [ "$(id -u)" = 0 ] && have apt-get; then
    say "Debian packages: ${packages[*]}"
    # Debian starts a server of its own with some packages; ours are private, so forbid it.
    printf '#!/bin/sh\nexit 101\n' > /usr/sbin/policy-rc.d.trueup
    chmod +x /usr/sbin/policy-rc.d.trueup
    if [ ! -e /usr/sbin/policy-rc.d ]; then
      mv /usr/sbin/policy-rc.d.trueup /usr/sbin/policy-rc.d
      trap 'rm -f /usr/sbin/policy-rc.d' EXIT
    else
      rm -f /usr/sbin/policy-rc.d.trueup
    fi
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}" >"$local_dir/apt.log" 2>&1 ||
      { tail -20 "$local_dir/apt.log"; exit 1; }
  else
    printf 'error: these packages are missing; install them and run this again:\n  sudo apt-get install -y %s\n' "${packages[*]}" >&2
    exit 1
  fi
fi
have cargo || { echo 'error: Rust is missing; install it by rustup, then run this again' >&2; exit 1; }

# --- Apache Kafka --------------------------------------------------------------------------------------------------
if [ "${STACK:-}" != docker ] && [ ! -e "$local_dir/kafka/libs/kafka_2.13-4.1.0.jar" ]; then
  say 'Apache Kafka 4.1.0 (54 MB of jars, by Maven)'
  rm -rf "$local_dir/kafka/libs.part"
  mvn -q -B -f deploy/local/kafka/pom.xml dependency:copy-dependencies -DoutputDirectory="$local_dir/kafka/libs.part"
  mkdir -p "$local_dir/kafka"
  mv "$local_dir/kafka/libs.part" "$local_dir/kafka/libs"
fi

# --- Go, for two tools of the tests ------------------------------------------------------------------------------------
# Debian has packages of neither, and its Go is too old for both; but it can fetch a newer one, which is a module like any other and is
# checked like one.
go_wanted=1.24.9
go_minor() { "$1" env GOVERSION 2>/dev/null | sed -nE 's/^go1\.([0-9]+).*/\1/p' || true; }
modern_go() {
  local own="$local_dir/tools/go-toolchain/bin/go" minor
  minor=$(go_minor go)
  if [ "${minor:-0}" -ge 22 ]; then
    go=go
  else
    if [ ! -x "$own" ]; then
      say "Go $go_wanted (builds two tools of the tests; 70 MB, as a module)" >&2
      module="golang.org/toolchain@v0.0.1-go$go_wanted.linux-$(go env GOARCH)"
      # Its errors are in what it prints, too.
      told=$(cd "$local_dir" && go mod download -json "$module") || { printf 'error: Go could not be fetched:\n%s\n' "$told" >&2; exit 1; }
      folder=$(sed -nE 's/^\s*"Dir": "(.*)",?$/\1/p' <<<"$told")
      rm -rf "$local_dir/tools/go-part"
      mkdir -p "$local_dir/tools"
      cp -r "$folder" "$local_dir/tools/go-part"
      # A module keeps no permissions.
      chmod -R u+w "$local_dir/tools/go-part"
      chmod -R +x "$local_dir/tools/go-part/bin" "$local_dir/tools/go-part/pkg/tool"
      rm -rf "$local_dir/tools/go-toolchain"
      mv "$local_dir/tools/go-part" "$local_dir/tools/go-toolchain"
    fi
    go=$own
  fi
}

# go_install NAME PACKAGE BUILT WHAT LDFLAGS: builds a program into tools/bin under NAME.
go_install() {
  say "$4"
  modern_go
  mkdir -p "$local_dir/tools/bin" "$local_dir/tools/go-built"
  env -u GOROOT GOTOOLCHAIN=local GOBIN="$local_dir/tools/go-built" "$go" install -ldflags "$5" "$2"
  mv "$local_dir/tools/go-built/$3" "$local_dir/tools/bin/$1"
  rmdir "$local_dir/tools/go-built"
}

# Cuts and slows links in tests and in the fault drill.
toxiproxy_version=v2.12.0
if [ "$("$local_dir/tools/bin/toxiproxy-server" -version 2>/dev/null | grep -o '[0-9.]*$')" != "${toxiproxy_version#v}" ]; then
  go_install toxiproxy-server "github.com/Shopify/toxiproxy/v2/cmd/server@$toxiproxy_version" server \
    "Toxiproxy $toxiproxy_version (cuts and slows links in tests; about a minute)" \
    "-X github.com/Shopify/toxiproxy/v2.Version=${toxiproxy_version#v}"
fi

# Holds the Stripe adapter's calls against Stripe's own OpenAPI document. It stays out of the Docker stack: it is for tests only.
stripe_mock_version=v0.203.0
if ! "$local_dir/tools/bin/stripe-mock" -version 2>/dev/null | grep -q "$stripe_mock_version"; then
  go_install stripe-mock "github.com/stripe/stripe-mock@$stripe_mock_version" stripe-mock \
    "stripe-mock $stripe_mock_version (checks of the Stripe adapter)" "-X main.version=$stripe_mock_version"
fi

# --- promtool -------------------------------------------------------------------------------------------------------
# Plays the cases of the alerts. Of Debian's package this one program is taken; Prometheus itself is not installed. Only tests need it, so nothing
# else waits for it.
promtool_from_debian() {
  local part="$local_dir/tools/promtool-part"
  rm -rf "$part"
  mkdir -p "$part" "$local_dir/tools/bin"
  # The lists of packages may be missing, or older than the package.
  (
    cd "$part" &&
      { apt-get download -qq prometheus || { [ "$(id -u)" = 0 ] && apt-get update -qq && apt-get download -qq prometheus; }; } &&
      dpkg -x prometheus_*.deb . && mv usr/bin/promtool ../bin/promtool
  ) >"$local_dir/promtool.log" 2>&1
  local result=$?
  rm -rf "$part"
  return "$result"
}
if ! have promtool && [ ! -x "$local_dir/tools/bin/promtool" ]; then
  say "promtool (checks of the alerts; 19 MB, out of Debian's package prometheus)"
  if ! have apt-get || ! promtool_from_debian; then
    say 'promtool could not be had: `make test` and `make alerts` need it; it comes with Prometheus'
  fi
fi

# --- buf ------------------------------------------------------------------------------------------------------------
buf_version=1.75.0
if [ "$("$local_dir/tools/bin/buf" --version 2>/dev/null)" != "$buf_version" ]; then
  say "buf $buf_version (checks of the contracts, by npm)"
  npm install --silent --no-audit --no-fund --prefix "$local_dir/tools" "@bufbuild/buf@$buf_version" >/dev/null
  mkdir -p "$local_dir/tools/bin"
  ln -sf ../node_modules/.bin/buf "$local_dir/tools/bin/buf"
fi
