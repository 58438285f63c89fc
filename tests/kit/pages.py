"""Pages as their readers see them: the text of tables, and the tags there are."""

from __future__ import annotations

from html.parser import HTMLParser

from markdown_it import MarkdownIt

TABLE_TAGS = {"table", "thead", "tbody", "tr", "th", "td"}


class Page(HTMLParser):
    """Tags, attributes and text of an HTML page, and its tables as rows of cells."""

    def __init__(self, html: str):
        super().__init__()
        self.tags, self.attributes, self.tables, self.text, self._in_cell = [], [], [], "", False
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes.append((tag, dict(attributes)))
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
            self._in_cell = True

    def handle_endtag(self, tag):
        self._in_cell = self._in_cell and tag not in ("td", "th")

    def handle_data(self, data):
        self.text += data
        if self._in_cell:
            self.tables[-1][-1][-1] += data

    def table(self, title: str) -> dict[str, dict[str, str]]:
        """First cell that names a row -> column -> text, of the first table with a column of this name."""
        header, *rows = next(table for table in self.tables if title in table[0])
        name = header.index("Method")
        return {row[name]: dict(zip(header, row, strict=True)) for row in rows}


def rendered(markdown: str) -> Page:
    """The page that a renderer of Markdown makes."""
    return Page(MarkdownIt("commonmark").enable(["table", "strikethrough"]).render(markdown))
