"""Lets the site have what lies outside docs/: README and its neighbours as pages, examples and other files as listings.

Links stay as they are in the repository, where they work as well; here they lead to the page that a file has become.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parent.parent
#: Documents at the root, and what they are called on the site.
DOCUMENTS = {
    "README.md": "readme.md",
    "ARCHITECTURE.md": "architecture.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
}
LINK = re.compile(r"\]\((?!https?:|#)([^)#\s]*)(#[^)\s]*)?\)")
LANGUAGES = {".py": "python", ".rs": "rust", ".yaml": "yaml", ".yml": "yaml", ".json": "json", ".java": "java"}


def page_of(path: str) -> str:
    """The page of a file or folder, both from the root."""
    if path in DOCUMENTS:
        return DOCUMENTS[path]
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    return f"files/{path}.md"


def turned(text: str, folder: str, page: str) -> str:
    """A document's text with its links, which begin in `folder`, as links of the page."""

    def turn(match: re.Match[str]) -> str:
        path = posixpath.normpath(posixpath.join(folder, match[1]))
        # What is not there stays, and fails the strict build.
        if not (ROOT / path).exists():
            return match[0]
        found = posixpath.relpath(page_of(path), posixpath.dirname(page) or ".")
        return f"]({found}{match[2] or ''})"

    return LINK.sub(turn, text)


def linked(text: str, folder: str) -> set[str]:
    """The files and folders, from the root, that a document links to."""
    paths = {posixpath.normpath(posixpath.join(folder, match[1])) for match in LINK.finditer(text)}
    return {path for path in paths if (ROOT / path).exists()}


def listing(path: str) -> str:
    """A page that shows a file, or names what is in a folder."""
    here = ROOT / path
    if here.is_dir():
        names = sorted(one.name for one in here.iterdir() if one.is_file())
        lines = [f"- [{name}]({posixpath.basename(path)}/{name}.md)" for name in names]
        return f"# {path}\n\n" + "\n".join(lines) + "\n"
    return f"# {path}\n\n``````{LANGUAGES.get(here.suffix, 'text')}\n{here.read_text()}\n``````\n"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages of what lies outside docs/."""
    paths: set[str] = set()
    for name, page in DOCUMENTS.items():
        text = (ROOT / name).read_text()
        paths |= linked(text, "")
        files.append(File.generated(config, page, content=turned(text, "", page)))
    for one in (ROOT / "docs").glob("*.md"):
        paths |= linked(one.read_text(), "docs")
    for path in list(paths):
        if (ROOT / path).is_dir():
            paths |= {f"{path}/{one.name}" for one in (ROOT / path).iterdir() if one.is_file()}
    for path in sorted(paths):
        if page_of(path).startswith("files/"):
            files.append(File.generated(config, page_of(path), content=listing(path)))
    return files


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """Turns the links of docs/'s own pages."""
    if page.file.generated_by is not None:
        return markdown
    return turned(markdown, "docs", page.file.src_uri)
