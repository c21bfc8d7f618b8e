"""Every link of every page: the files and headings that it names are there."""

import re
from pathlib import PurePosixPath
from posixpath import normpath

from helpers import ROOT

LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
CODE = re.compile(r"```.*?```|^ {4}[^\n]*$", re.DOTALL | re.MULTILINE)


def links(text):
    return LINK.findall(CODE.sub("", text))


def anchors(text):
    """The names that GitHub gives to headings."""
    found = set()
    for heading in HEADING.findall(re.sub(r"```.*?```", "", text, flags=re.DOTALL)):
        letters = re.sub(r"[^\w\- ]", "", heading.lower())
        found.add(letters.replace(" ", "-"))
    return found


def broken(pages, exists):
    """The links that lead nowhere, as `page: link`."""
    found = []
    for page, text in pages.items():
        for link in links(text):
            if link.startswith("https://") or link.startswith("http://"):
                continue
            path, _, anchor = link.partition("#")
            target = normpath(str(PurePosixPath(page).parent / path)) if path else page
            has_anchor = not anchor or anchor in anchors(pages.get(target, ""))
            if not exists(target) or not has_anchor:
                found.append(f"{page}: {link}")
    return found


def test_a_link_to_a_missing_file_or_heading_is_found():
    pages = {
        "README.md": "[a](docs/a.md#the-end) [b](#here) [c](gone.md) [d](#nowhere)\n# Here",
        "docs/a.md": "[home](../README.md#here) [up](README.md)\n## The end",
    }
    found = broken(pages, lambda path: path in pages)
    assert found == ["README.md: gone.md", "README.md: #nowhere", "docs/a.md: README.md"]


def test_every_link_leads_to_a_file_and_a_heading(pages):
    assert broken(pages, lambda path: (ROOT / path).exists()) == []


def test_every_page_can_be_reached_from_the_front_page(pages):
    reached = set()
    waiting = ["README.md"]
    while waiting:
        page = waiting.pop()
        if page in pages and page not in reached:
            reached.add(page)
            folder = PurePosixPath(page).parent
            paths = [link.partition("#")[0] for link in links(pages[page])]
            waiting += [normpath(str(folder / path)) for path in paths if path]
    assert set(pages) - reached <= {"docs/README.md"}


def test_every_picture_is_shown_by_a_page(pages):
    shown = {PurePosixPath(link).name for text in pages.values() for link in links(text)}
    pictures = {path.name for path in (ROOT / "image").glob("*.*g")}
    assert pictures - shown == set()
