"""The live view's files: read once, the same for everybody, and without any figure in them."""

from importlib import resources

from kvproxy.adapters.http1.listener import Page, Route

_TYPES = {
    "live.html": "text/html; charset=utf-8",
    "live.css": "text/css; charset=utf-8",
    "live.js": "text/javascript; charset=utf-8",
    "uplot.css": "text/css; charset=utf-8",
    "uplot.js": "text/javascript; charset=utf-8",
}


def page_routes() -> dict[str, Route]:
    """By path: /admin/ and what it loads from beside it; /admin leads there, as people type it."""
    folder = resources.files("kvproxy.admin") / "page"
    pages = {name: Page((folder / name).read_bytes(), kind) for name, kind in _TYPES.items()}
    routes = {f"/admin/{name}": _serve(page) for name, page in pages.items()}
    # Relative, so that it holds below the path of a front as well.
    typed = Page(b"", "text/plain; charset=utf-8", 308, location="admin/")
    return routes | {"/admin/": _serve(pages["live.html"]), "/admin": _serve(typed)}


def _serve(page: Page) -> Route:
    async def route(_query: str) -> Page:
        return page

    return route
