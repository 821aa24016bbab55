"""The site's pages: the first one runs, references are what the code says, links hold in the repository, too."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from ..support import Served
from .prometheus import DEPLOY, RULES

ROOT = DEPLOY.parent
DOCS = ROOT / "docs"


def loaded(name: str) -> ModuleType:
    """A program of docs/, as a module."""
    specification = importlib.util.spec_from_file_location(f"docs_{name}", DOCS / f"{name}.py")
    module = importlib.util.module_from_spec(specification)
    # Its dataclasses look themselves up.
    sys.modules[module.__name__] = module
    specification.loader.exec_module(module)
    return module


@pytest.mark.timeout(60)
def test_what_the_first_page_says_runs(
    serve: Callable[..., Served], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (DOCS / "index.md").read_text()
    found = re.findall(r"^```(sh|python)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert [language for language, _ in found] == ["sh", "python", "sh"]
    started, code, commands = (block for _, block in found)
    assert started == "bowstring serve\n"
    served = serve()
    exec(compile(code.replace("grpc://127.0.0.1:8815", served.url), "index.md", "exec"), {})
    assert capsys.readouterr().out == "150\n"
    program = tmp_path / "bowstring"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m bowstring "$@"\n')
    program.chmod(0o755)
    environment = os.environ | {"BOWSTRING_URL": served.url, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    told = subprocess.run(["sh", "-e", "-c", commands], env=environment, capture_output=True, text=True)
    assert (told.returncode, told.stderr) == (0, "")
    assert "clicks" in told.stdout
    assert "totals" in told.stdout


def test_references_are_what_the_code_says() -> None:
    for path, text in loaded("generate").generated().items():
        assert path.read_text() == text, f"{path.name} is stale: run python docs/generate.py"


def test_a_reference_that_is_stale_is_noticed() -> None:
    generate = loaded("generate")
    scraped = '# HELP a_b Things\n# TYPE a_b gauge\na_b{stream="s"} 1\n'
    row = "| `{}` | {} | {} | {} |\n"
    told = "# Metrics\n" + row.format("a_b", "gauge", "stream", "Things; many of them")
    assert generate.metrics(told, scraped) == told
    assert generate.metrics(told.replace("gauge", "counter"), scraped) == told
    assert generate.metrics(told.replace("| stream |", "|  |"), scraped) == told
    assert generate.metrics(told.replace("Things", "Thoughts"), scraped) == told.replace("; many of them", "")
    assert generate.metrics(told + row.format("gone", "gauge", "", "Nothing"), scraped) == told
    (one,) = generate.settings(
        "\nOptions:\n  -h\n\nServer:\n      --tls-cert <FILE>\n          A file [default: none]\n"
    )["Server"]
    assert (one.in_file, one.default, one.text) == ("tls.cert", "none", "A file")


def test_every_alert_is_on_the_page_and_has_its_first_aid() -> None:
    rules = [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]
    table = re.findall(
        r"^\| \[(\w+)\]\(troubleshooting\.md#(\w+)\) \| (\w+) \|", (DOCS / "monitoring.md").read_text(), re.MULTILINE
    )
    assert table == [(rule["alert"], rule["alert"].lower(), rule["labels"]["severity"]) for rule in rules]
    headings = re.findall(r"^### (\w+)$", (DOCS / "troubleshooting.md").read_text(), re.MULTILINE)
    assert headings == [rule["alert"] for rule in rules]


def test_codes_that_troubleshooting_names_are_codes() -> None:
    codes = set(re.findall(r"^\| `(\w+)` \| \d+ \|", (DOCS / "errors.md").read_text(), re.MULTILINE))
    rules = re.findall(r'code=~?"([^"]*)"', RULES.read_text())
    assert {code for one in rules for code in one.split("|")} <= codes
    symptoms = re.findall(r"^\| (`\w+`(?:, `\w+`)*)", (DOCS / "troubleshooting.md").read_text(), re.MULTILINE)
    assert {code for one in symptoms for code in re.findall(r"\w+", one)} <= codes


def anchors(document: Path) -> set[str]:
    """The anchors that the repository's view gives a document's headings."""
    headings = re.findall(r"^#+ (.*)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_links_hold_in_the_repository() -> None:
    wrong = []
    for document in [*DOCS.glob("*.md"), *ROOT.glob("*.md")]:
        for path, anchor in re.findall(r"\]\((?!https?:)([^)#\s]*)#?([^)\s]*)\)", document.read_text()):
            target = document.parent / path if path else document
            if not target.exists() or (anchor and anchor not in anchors(target)):
                wrong.append(f"{document.name}: {path}#{anchor}")
    assert not wrong


def test_the_site_has_every_page_of_the_folder() -> None:
    listed = set(re.findall(r": ([\w-]+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE))
    assert {path.name for path in DOCS.glob("*.md")} <= listed
