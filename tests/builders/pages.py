"""What stands in a page."""

from __future__ import annotations

import re
from html import unescape
from html.parser import HTMLParser
from itertools import pairwise

TITLES = ["The answer", "Comparison", "ELBO while training", "Gaps", "Pictures", "What was swept",
          "Where the numbers come from"]  # fmt: skip
VOID = {"wbr", "meta", "link", "img", "br", "hr", "input"}


class Page(HTMLParser):
    """The elements of a page in order, each with its attributes and the text within it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements, self.open = [], []
        self.feed(text)
        assert not self.open, self.open

    def handle_starttag(self, tag, attrs):
        element = {"tag": tag, "text": "", **{f"@{name}": value for name, value in attrs}}
        self.elements.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_endtag(self, tag):
        assert self.open.pop()["tag"] == tag

    def handle_data(self, data):
        for element in self.open:
            element["text"] += data

    def all(self, tag, **attributes):
        wanted = {f"@{name.rstrip('_')}": value for name, value in attributes.items()}
        return [e for e in self.elements if e["tag"] == tag and all(e.get(k) == v for k, v in wanted.items())]


def rows_of(page, look):
    """The rows of the first table of this kind: texts by column."""
    start = page.elements.index(page.all("table", class_=look)[0])
    inside = page.elements[start:]
    heads = [e["text"].strip() for e in inside if e["tag"] == "button"]
    ends = [i for i, e in enumerate(inside) if e["tag"] == "tr"] + [len(inside)]
    rows = [[c for c in inside[a:b] if c["tag"] in ("th", "td")] for a, b in pairwise(ends)]
    return heads, [row for row in rows if row and row[0].get("@scope") == "row"]


def text_of(html: str) -> str:
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]*>", " ", html)))


def cells(shown):
    """The rows of a table: by part and title of its columns, their cells."""
    titles = [": ".join(filter(None, (column.part.partition(",")[0], column.title))) for column in shown.columns]
    return [dict(zip(titles, row, strict=True)) for row in shown.rows]


def texts(shown):
    """The same as text on one line."""
    return [{title: shown.plain(cell) for title, cell in row.items()} for row in cells(shown)]
