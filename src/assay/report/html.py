"""How a page becomes HTML: one file that stands alone, without network, frameworks or a need for scripts."""

from __future__ import annotations

from functools import cache, partial
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from assay import __version__
from assay.report._view.text import plain


def filled(template: str, project: Path | None = None, **shown: Any) -> str:
    """A template with everything put in; nothing foreign gets out of its place.

    Args:
        template: name of its file in `templates/`.
        project: folder that paths are shown relative to, so that a page may be handed on.
        shown: what the template names.
    """
    return environment(project).get_template(template).render(version=__version__, **shown)


def environment(project: Path | None = None) -> Environment:
    """Templates that escape everything, stop at an unknown name, and leave the project's folder out of paths."""
    return _environment(f"{project}/" if project else "")


@cache
def _environment(prefix: str) -> Environment:
    made = Environment(
        loader=PackageLoader("assay.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=partial(_finalize, prefix=prefix),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["prose"] = partial(_prose, prefix=prefix)
    made.filters["exact"] = _exact
    return made


def _prose(text: str, prefix: str) -> Markup:
    """A sentence in which `commands` between backticks are set as code; all else is escaped."""
    shown = _shown(text, prefix)
    parts = shown.split("`")
    if len(parts) % 2 == 0:  # an odd backtick is no pair
        return escape(shown)
    code = Markup("<code>{}</code>")
    return Markup("").join(code.format(part) if i % 2 else part for i, part in enumerate(parts))


def _exact(text: str) -> Markup:
    """Content of a text, escaped, with every path left as it stands: it is what would be deployed."""
    return escape(plain(text))


def _finalize(value: Any, prefix: str) -> Any:
    """Every value on its way into the page: no control characters, no reordering, no lone surrogates."""
    if isinstance(value, str) and not isinstance(value, Markup):
        return _shown(value, prefix)
    return "" if value is None else value


def _shown(text: str, prefix: str) -> str:
    return plain(text).replace(prefix, "") if prefix else plain(text)
