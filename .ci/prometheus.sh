#!/usr/bin/env bash
# Prints a folder that has Debian's prometheus and promtool. Taken out of the package and not installed: no service is started, no user made.
set -euo pipefail

if command -v prometheus > /dev/null && command -v promtool > /dev/null; then
    dirname "$(command -v prometheus)"
    exit
fi
folder="${XDG_CACHE_HOME:-$HOME/.cache}/bowstring/prometheus"
if [ ! -x "$folder/usr/bin/promtool" ]; then
    new=$(mktemp -d)
    trap 'rm -rf "$new"' EXIT
    {
        apt-get update -qq
        (cd "$new" && apt-get download -qq -o APT::Sandbox::User=root prometheus && dpkg-deb -x ./*.deb unpacked)
        mkdir -p "$(dirname "$folder")"
        rm -rf "$folder"
        mv "$new/unpacked" "$folder"
    } >&2 < /dev/null
fi
printf '%s/usr/bin\n' "$folder"
