"""`assay doctor`: what runs here, and what is missing for the rest."""

from __future__ import annotations

import json
import platform
import sys

import click
from pydantic import BaseModel, ValidationError
from rich.table import Table
from rich.text import Text

from assay import __version__, registry
from assay.core.ports import Component
from assay.core.sizes import size
from assay.core.study import AdapterRef
from assay.core.vocabulary import Verb
from assay.ledger.home import find_home
from assay.report.console import result_console
from assay.runtime.files import free_bytes

_STYLE = {
    "ready": "green",
    "missing": "yellow",
    "unsupported": "yellow",
    "broken": "red",
    "needs options": "dim",
}


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def doctor(as_json: bool) -> int:
    """List all kinds of components, the vendor's version, and what is missing."""
    found = [_check(verb, kind) for verb in Verb for kind in registry.kinds(verb)]
    home = find_home()
    if as_json:
        machine = {"python": platform.python_version(), "executable": sys.executable, "home": str(home)}
        value = {"schema": "doctor/1", "assay": __version__, **machine}
        click.echo(json.dumps({**value, "components": [c.to_json() for c in found]}, indent=2))
        return 0
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("verb", "kind", "state"):
        table.add_column(column, no_wrap=True)
    table.add_column("version", overflow="fold", ratio=2)
    table.add_column("what to do", overflow="fold", ratio=3)
    for c in found:
        versions = ", ".join(f"{name} {version}" for name, version in c.vendor.items())
        state = Text(c.state, style=_STYLE.get(c.state, "red"))
        table.add_row(c.verb, c.kind, state, Text(versions), Text(c.detail))
    result_console().print(table)
    free = free_bytes(home)
    click.echo(f"\nassay {__version__}, Python {platform.python_version()}; ledger folder {home}", err=True)
    click.echo(f"free there: {size(free)}" if free is not None else "free there: unknown", err=True)
    return 0


def _check(verb: Verb, kind: str) -> Component:
    options: type[BaseModel] = registry.module(verb, kind).Options
    try:
        options.model_validate({})
    except ValidationError as error:
        required = ", ".join(".".join(map(str, e["loc"])) for e in error.errors())
        made = _without_options(verb, kind)
        return made or Component(
            verb=verb.value, kind=kind, state="needs options", detail=f"set {required} in the spec"
        )
    adapter = registry.adapter(verb, AdapterRef(kind=kind))
    if not hasattr(adapter, "check"):  # apply and execute use nothing but the standard library
        return Component(verb=verb.value, kind=kind, state="ready")
    component: Component = adapter.check()
    return component


def _without_options(verb: Verb, kind: str) -> Component | None:
    """A kind with required options can often be checked all the same: the vendor does not depend on them."""
    module = registry.module(verb, kind)
    try:
        component: Component = module.Adapter(module.Options.model_construct()).check()
    except (AttributeError, TypeError, IndexError):
        return None
    return component
