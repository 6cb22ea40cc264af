"""Check the internal links, anchors and image texts of a built HTML folder.

`python tools/linkcheck.py _build/html` prints each finding and fails if there is one. Links to
other hosts are not followed.
"""

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

# Pages whose text is written by JavaScript, and templates that themes ship.
GENERATED = {"search.html", "genindex.html"}
SKIPPED_FOLDERS = {"_static"}


class Page(HTMLParser):
    """The ids, links and images without a text of one HTML page."""

    def __init__(self, text):
        super().__init__()
        self.ids = set()
        self.links = []
        self.unnamed_images = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.ids.update(attrs[key] for key in ("id", "name") if attrs.get(key))
        self.links += [attrs[key] for key in ("href", "src") if attrs.get(key)]
        if tag == "img" and not has_text(attrs):
            self.unnamed_images.append(attrs.get("src", ""))


def has_text(attrs):
    """True if an image has a text: Sphinx writes the file's path where an author gave none."""
    alt = (attrs.get("alt") or "").strip()
    return bool(alt) and "_images/" not in alt and "_static/" not in alt


def target_of(page, link, root):
    """Return the file an internal link means, or None for a link to another host."""
    parts = urlsplit(link)
    if parts.scheme or parts.netloc:
        return None
    path = unquote(parts.path)
    if not path:
        return page
    target = root / path.lstrip("/") if path.startswith("/") else page.parent / path
    target = target.resolve()
    return target / "index.html" if target.is_dir() else target


def check(root):
    """Return (findings, number of pages, number of internal links) of a folder of HTML."""
    root = Path(root).resolve()
    pages = {
        path: Page(path.read_text(encoding="utf8"))
        for path in sorted(root.rglob("*.html"))
        if not SKIPPED_FOLDERS & set(path.relative_to(root).parts)
    }
    findings, links = [], 0
    for path, page in pages.items():
        name = path.relative_to(root)
        for link in page.links:
            target = target_of(path, link, root)
            if target is None:
                continue
            links += 1
            fragment = unquote(urlsplit(link).fragment)
            checkable = fragment and target in pages and path.name not in GENERATED
            if not target.exists():
                findings.append(f"{name}: no such file: {link}")
            elif checkable and fragment not in pages[target].ids:
                findings.append(f"{name}: no such anchor: {link}")
        findings += [f"{name}: image without alt text: {src}" for src in page.unnamed_images]
    return findings, len(pages), links


def main():
    findings, pages, links = check(sys.argv[1])
    print("".join(f"{finding}\n" for finding in findings), end="")
    print(f"{pages} pages, {links} internal links, {len(findings)} findings")
    sys.exit(bool(findings) or not pages)


if __name__ == "__main__":
    main()
