"""Fails if a page of the built site would load anything from elsewhere: `python docs/check.py SITE`.

Links that people follow may lead anywhere.
"""

import re
import sys
from html.parser import HTMLParser
from pathlib import Path

#: What loads without a click, by the attribute that names it.
LOADING = {
    "script": "src",
    "img": "src",
    "iframe": "src",
    "link": "href",
    "source": "src",
    "video": "src",
    "object": "data",
}
#: Of links, only to be looked up.
NAMING = {"canonical", "next", "prev", "alternate"}


class Loads(HTMLParser):
    """Collects what a page loads from elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Notes the tag if it loads."""
        given = dict(attrs)
        address = given.get(LOADING.get(tag, ""), "") or ""
        if re.match(r"(https?:)?//", address) and given.get("rel") not in NAMING:
            self.found.append(f"{tag} {address}")


def faults(site: Path) -> list[str]:
    """One line for each thing that would be loaded from elsewhere."""
    found = []
    for page in sorted(site.rglob("*.html")):
        loads = Loads()
        loads.feed(page.read_text())
        found += [f"{page.relative_to(site)}: {one}" for one in loads.found]
    for style in site.rglob("*.css"):
        imports = re.findall(r"@import[^;]*|url\(\s*[\"']?(?:https?:)?//[^)]*", style.read_text())
        found += [f"{style.relative_to(site)}: {one}" for one in imports]
    return found


if __name__ == "__main__":
    (folder,) = sys.argv[1:]
    pages = len(list(Path(folder).rglob("*.html")))
    wrong = faults(Path(folder))
    print("\n".join(wrong) or f"{pages} pages load nothing from elsewhere")
    sys.exit(bool(wrong) or not pages)
