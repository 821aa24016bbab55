#!/usr/bin/env bash
# Says what is missing on this machine, before a build says it less clearly. Usage: require.sh rust|python|java|jdk
set -euo pipefail

fail() {
    printf 'bowstring: %s\n' "$1" >&2
    exit 1
}

# at_least FOUND WANTED: compares dotted versions.
at_least() {
    [ "$(printf '%s\n%s\n' "$2" "$1" | sort -t . -k 1,1n -k 2,2n | head -n 1)" = "$2" ]
}

require_rust() {
    local wanted found
    wanted=$(sed -n 's/^rust-version = "\(.*\)"$/\1/p' Cargo.toml | head -n 1)
    command -v cargo >/dev/null || fail "cargo is not on the PATH: install Rust $wanted or newer (rustup, or your system's packages)"
    found=$(rustc --version | sed 's/^rustc \([0-9]*\.[0-9]*\).*/\1/')
    at_least "$found" "$wanted" || fail "Rust $wanted or newer is needed, but rustc is $found: run 'rustup update stable'"
}

require_python() {
    local python=${PYTHON:-python3} wanted=3.11 found
    command -v "$python" >/dev/null || fail "$python is not on the PATH: install Python $wanted or newer, or say which with 'make PYTHON=...'"
    found=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    at_least "$found" "$wanted" || fail "Python $wanted or newer is needed, but $python is $found: say which with 'make PYTHON=...'"
    "$python" -c 'import ensurepip, venv' 2>/dev/null || fail "$python has no venv module: install it (Debian: apt install python3-venv)"
}

require_java() {
    local java wanted=17 found
    if [ -n "${JAVA_HOME:-}" ]; then
        java=$JAVA_HOME/bin/java
        [ -x "$java" ] || fail "JAVA_HOME is $JAVA_HOME, but there is no bin/java in it: point it at a JDK of version $wanted or newer"
    else
        java=$(command -v java) || fail "Spark needs Java $wanted or newer, but java is not on the PATH and JAVA_HOME is not set: install a JDK (Debian: apt install openjdk-17-jdk-headless)"
    fi
    found=$("$java" -version 2>&1 | sed -n 's/.*version "\([0-9]*\).*/\1/p' | head -n 1)
    [ -n "$found" ] || fail "$java does not tell its version: install a JDK of version $wanted or newer"
    at_least "$found" "$wanted" || fail "Spark needs Java $wanted or newer, but $java is $found: set JAVA_HOME to a newer one"
}

require_jdk() {
    local javac=${JAVA_HOME:+$JAVA_HOME/bin/}javac
    require_java
    command -v "$javac" >/dev/null || fail "the JVM connector is compiled with javac, but there is none beside java: install a JDK, not only its runtime (Debian: apt install openjdk-17-jdk-headless)"
}

cd "$(dirname "$0")/.."
"require_${1:?usage: require.sh rust|python|java|jdk}"
