#!/usr/bin/env bash
# Compiles the JVM connector against the jars of the installed pyspark and packs it with the native library of this platform.
# Usage: PYTHON=python jar.sh FILE; the library is cargo's newest release build.
set -euo pipefail
jar=$(realpath -m "${1:?usage: jar.sh FILE}")
python=$(realpath -s "${PYTHON:-python3}")
cd "$(dirname "$0")"

tool() {
    printf '%s' "${JAVA_HOME:+$JAVA_HOME/bin/}$1"
}

spark=$("$python" -c 'import importlib.util, pathlib; print(pathlib.Path(importlib.util.find_spec("pyspark").origin).parent / "jars")')
system=$(uname -s | tr '[:upper:]' '[:lower:]' | sed 's/darwin/macos/')
processor=$(uname -m | sed 's/arm64/aarch64/')
extension=so
[ "$system" != macos ] || extension=dylib
library=${CARGO_TARGET_DIR:-../target}/release/libbowstring_jvm.$extension

classes=$(mktemp -d)
trap 'rm -rf "$classes"' EXIT
find src/main/java -name '*.java' > "$classes.sources"
trap 'rm -rf "$classes" "$classes.sources"' EXIT
"$(tool javac)" --release 17 -Xlint:all,-processing,-classfile,-path,-options -Werror -cp "$spark/*" -d "$classes" "@$classes.sources"
cp -r src/main/resources/. "$classes"
mkdir -p "$classes/io/bowstring/spark/native/$system-$processor"
cp "$library" "$classes/io/bowstring/spark/native/$system-$processor/"
mkdir -p "$(dirname "$jar")"
# The same bytes for the same content.
"$(tool jar)" --create --file "$jar" --date 1980-01-01T00:00:02Z -C "$classes" .
