"""Writes what the docs say of the code from the code: configuration.md, and the table of metrics.md.

`python docs/generate.py`, with bowstring installed. A test says when what is committed is no longer what this writes.
"""

from __future__ import annotations

import itertools
import re
import ssl
import subprocess
import sys
import tempfile
import urllib.request
from dataclasses import dataclass
from pathlib import Path

DOCS = Path(__file__).parent
#: Settings that are in a table of their own in the file: --log-format is `format` in [log].
TABLES = ("log", "tls", "auth", "audit")
#: Names in the file that are not the flag's.
IN_FILE = {"log": "log.filter", "config": ""}
HEAD = """# Configuration

Of `bowstring serve`, written from its `--help` by `docs/generate.py`. Flags go before the environment, the environment
before the file that `--config` names. Sizes are written `512MiB` or `4GiB`, durations `250ms`, `30s`, `5m`. A setting
that is not known is refused.

`bowstring.StreamCoordinator(...)` in Python takes what its own documentation lists, by the names in the file; durations
are seconds there (`max_wait_seconds`), sizes bytes, and by default ports are free ones.

Some tables are only in the file: `[auth.jwt]`, `[auth.certificates]` and `[auth.quotas]` ([security.md](security.md)),
and `[ingest.STREAM]`, the rows in JSON, Avro or Protobuf that a stream takes over HTTP
([formats.md](formats.md#rows-over-http)); that is `ingest=` in Python.
"""


@dataclass(frozen=True)
class Setting:
    """A flag of the command."""

    flag: str
    value: str
    environment: str
    text: str
    default: str

    @property
    def in_file(self) -> str:
        """Its name in the file, with its table's; empty where it is none of the file's."""
        if self.flag in IN_FILE:
            return IN_FILE[self.flag]
        table = next((one for one in TABLES if self.flag.startswith(f"{one}-")), None)
        name = self.flag.removeprefix(f"{table}-") if table else self.flag
        return (f"{table}." if table else "") + name.replace("-", "_")


def setting(flag: str, value: str, lines: list[str]) -> Setting:
    """A flag, from the indented lines below it."""
    text = " ".join(line.strip() for line in lines if line.strip())
    environment = re.search(r"\[env: (\w+)=[^\]]*\]", text)
    allowed = re.search(r"\[possible values: ([^\]]*)\]|Possible values: (.*?)(?= \[|$)", text)
    default = re.search(r"\[default: ([^\]]*)\]", text)
    for found in (environment, allowed, default):
        text = text.replace(found[0], "") if found else text
    text = re.sub(r"\s+", " ", text).strip()
    if allowed and allowed[1]:
        text += f" ({', '.join(allowed[1].split(', '))})"
    elif allowed:
        text += ": " + "; ".join(re.findall(r"- (.*?)(?= - |$)", allowed[2]))
    return Setting(flag, value, environment[1] if environment else "", text, default[1] if default else "")


def settings(help_text: str) -> dict[str, list[Setting]]:
    """The flags of a command's help, by heading."""
    found: dict[str, list[Setting]] = {}
    # What follows the options are examples.
    options = help_text[help_text.index("\nOptions:") :].split("\nOnce it listens")[0]
    for part in filter(str.strip, re.split(r"\n(?=[A-Z][^\n]*:\n)", options)):
        heading, *lines = part.strip("\n").splitlines()
        starts = [number for number, line in enumerate(lines) if re.match(r" +(-\w, )?--", line)]
        for start, end in itertools.pairwise([*starts, len(lines)]):
            named = re.match(r" +(?:-\w, )?--([\w-]+)(?: <([^>]*)>)?", lines[start])
            assert named is not None
            if named[1] != "help":
                one = setting(named[1], named[2] or "", lines[start + 1 : end])
                found.setdefault(heading.rstrip(":"), []).append(one)
    return found


def cell(text: str) -> str:
    """Text as a cell of a table."""
    return text.replace("|", "\\|").replace("<", "&lt;")


def configuration(help_text: str) -> str:
    """configuration.md."""
    parts = [HEAD]
    for heading, flags in settings(help_text).items():
        parts.append(
            f"\n## {heading}\n\n| flag | environment | in the file | default | what it is |\n"
            "| --- | --- | --- | --- | --- |\n"
        )
        for one in flags:
            flag = f"`--{one.flag} {one.value}`".replace(" `", "`")
            in_file = f"`{one.in_file}`" if one.in_file else ""
            environment = f"`{one.environment}`" if one.environment else ""
            parts.append(f"| {flag} | {environment} | {in_file} | {cell(one.default)} | {cell(one.text)} |\n")
    return "".join(parts)


ROW = re.compile(r"^\| `(\w+)` \| (\w+) \| ([^|]*) \| (.*) \|$")


def metrics(document: str, scraped: str) -> str:
    """metrics.md, with kind, labels and meaning as a coordinator gives them; what a meaning says beyond that stays.

    `scraped` is the /metrics of a coordinator that has a stream with a subscription: so each metric is there.
    """
    helps = dict(re.findall(r"^# HELP (\w+) (.*)$", scraped, re.MULTILINE))
    kinds = dict(re.findall(r"^# TYPE (\w+) (\w+)$", scraped, re.MULTILINE))
    lines, seen = [], set()
    for line in document.splitlines():
        row = ROW.match(line)
        if row is not None and row[1] in helps:
            name, meaning = row[1], row[4]
            seen.add(name)
            labels = re.search(rf"^{name}(?:_bucket)?\{{(.*?)\}} ", scraped, re.MULTILINE)
            names = [one for one in re.findall(r'(\w+)="', labels[1]) if one != "le"] if labels else []
            kept = meaning if meaning.startswith(helps[name]) else helps[name]
            line = f"| `{name}` | {kinds[name]} | {', '.join(names)} | {kept} |"
        elif row is not None:
            continue
        lines.append(line)
    missing = [name for name in helps if name not in seen]
    end = max(number for number, line in enumerate(lines) if ROW.match(line))
    lines[end + 1 : end + 1] = [f"| `{name}` | {kinds[name]} |  | {helps[name]} |" for name in missing]
    # Once more, for the labels of those that were missing.
    text = "\n".join(lines) + "\n"
    return metrics(text, scraped) if missing else text


def from_code() -> tuple[str, str]:
    """The command's help, and the /metrics of a coordinator with a stream and a subscription."""
    import bowstring

    command = [sys.executable, "-m", "bowstring", "serve", "--help"]
    help_text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    with tempfile.TemporaryDirectory() as folder:
        cert, key = certificate(Path(folder))
        with bowstring.StreamCoordinator(tls_cert=cert, tls_key=key) as coordinator:
            client = coordinator.client()
            client.create_stream("s")
            client.subscribe("s", "reader")
            trusting = ssl.create_default_context(cafile=cert)
            url = f"{coordinator.http_url}/metrics"
            with urllib.request.urlopen(url, timeout=10, context=trusting) as answer:  # noqa: S310 - our own
                return help_text, answer.read().decode()


def certificate(folder: Path) -> tuple[str, str]:
    """A certificate that is its own CA, and its key: of TLS there are metrics only where there is TLS."""
    cert, key = folder / "tls.crt", folder / "tls.key"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-days", "2", "-subj", "/CN=bowstring", "-addext", "subjectAltName=IP:127.0.0.1"]
    command += ["-addext", "basicConstraints=critical,CA:FALSE", "-keyout", str(key), "-out", str(cert)]
    subprocess.run(command, check=True, capture_output=True)
    return str(cert), str(key)


def generated() -> dict[Path, str]:
    """What each generated document has to be."""
    help_text, scraped = from_code()
    table = DOCS / "metrics.md"
    return {DOCS / "configuration.md": configuration(help_text), table: metrics(table.read_text(), scraped)}


if __name__ == "__main__":
    for path, text in generated().items():
        path.write_text(text)
