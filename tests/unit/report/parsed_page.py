"""A page of HTML as a reader of it sees it: tags, words, whether it closes what it opens, and what it loads."""

from __future__ import annotations

from html.parser import HTMLParser

VOID = {"meta", "link", "br", "hr", "img", "rect", "line", "path", "circle", "use", "polyline"}
LOADING = {"script", "link", "img", "iframe", "object", "embed"}


class ParsedPage(HTMLParser):
    """Tags with their attributes, the text of each, and whether they close as they open."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.unbalanced: list[str] = []
        self.words: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """An element, which stays open unless it has no content."""
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """An element that is closed at once."""
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        """The element that closes is the one that was opened last."""
        if not self.open or self.open.pop() != tag:
            self.unbalanced.append(tag)

    def handle_data(self, data: str) -> None:
        """Words for people."""
        if "style" not in self.open and "script" not in self.open:
            self.words.append(data)

    @property
    def text(self) -> str:
        """Everything that a person reads, on one line."""
        return " ".join(" ".join(self.words).split())


def balanced(page: str) -> ParsedPage:
    """The parsed page; every tag closes where it must."""
    found = ParsedPage(page)
    assert found.unbalanced == []
    assert found.open == []
    return found


def standing_alone(page: str) -> str:
    """The page, which is balanced, loads nothing, runs nothing, and links only to what it holds."""
    found = balanced(page)
    assert not LOADING & {tag for tag, _ in found.tags}
    places = {f"#{attributes['id']}" for _, attributes in found.tags if attributes.get("id")}
    links = {v for _, attributes in found.tags for k, v in attributes.items() if k in {"src", "href"}}
    assert links <= places
    return page
