"""`gradiograph view`: browse a run in a local page."""

from __future__ import annotations

import webbrowser
from typing import Annotated

import typer
from rich.console import Console

from gradiograph.cli.arguments import RunFolder
from gradiograph.core.errors import BadSetting
from gradiograph.report import Viewer

console = Console(highlight=False)


def view(
    directory: RunFolder,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Of this machine's own address; 0 takes a free one.")] = 0,
    *,
    browser: Annotated[bool, typer.Option(help="Open it in the browser.")] = True,
) -> None:
    """Browse a run: films sorted by leak, what was read back beside its controls. Only this machine can see it."""
    try:
        viewer = Viewer(directory, port)
    except OSError as error:
        msg = f"Port {port} cannot be used ({error.strerror}). Give another --port, or 0 for a free one."
        raise BadSetting(msg) from None
    console.print(f"Open: {viewer.link}", soft_wrap=True)
    console.print("Ctrl-C ends it.")
    if browser:
        webbrowser.open(viewer.link)
    try:
        viewer.serve()
    except KeyboardInterrupt:
        console.print("Ended.")
