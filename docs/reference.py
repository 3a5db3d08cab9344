"""What the site generates: the reference, from the registry, the command line and the public names; and the studies.

mkdocs calls `on_files`. A public name or a setting without documentation ends the build.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from nbconvert import MarkdownExporter

import gradiograph
from gradiograph import testing
from gradiograph.cli import app
from gradiograph.core import registry

if TYPE_CHECKING:
    from collections.abc import Iterator

    import click
    from mkdocs.config.defaults import MkDocsConfig

ROOT = Path(__file__).parents[1]


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages to those of the folder."""
    for name, content in pages().items():
        files.append(File.generated(config, name, content=content))
    return files


def pages() -> dict[str, str | bytes]:
    """Every generated page by its place in the site.

    Raises:
        PluginError: something public is not documented.
    """
    testing.load_rooms()
    missing = list(undocumented())
    if missing:
        msg = f"Not documented: {', '.join(missing)}. Write a docstring for each."
        raise PluginError(msg)
    made: dict[str, str | bytes] = {
        "reference/cli.md": command_line(),
        "reference/components.md": components(),
        "reference/python.md": python(),
    }
    for readme in sorted((ROOT / "studies" / "results").glob("*/README.md")):
        text = re.sub(r"\]\(\.\./(\w+)/README\.md\)", r"](\1.md)", readme.read_text(encoding="utf-8"))
        for chart in re.findall(r"\]\(([\w./-]+\.svg)\)", text):
            path = (readme.parent / chart).resolve()
            place = f"{path.parent.name}-{path.name}"
            made[f"studies/{place}"] = path.read_text(encoding="utf-8")
            text = text.replace(f"]({chart})", f"]({place})")
        made[f"studies/{readme.parent.name}.md"] = text.replace("](../../../docs/", "](../")
    return made | notebook()


def notebook() -> dict[str, str | bytes]:
    """The executed notebook as a page, with its pictures beside it."""
    text, resources = MarkdownExporter().from_filename(str(ROOT / "docs" / "notebook.ipynb"))
    pictures: dict[str, bytes] = resources["outputs"]
    return {"notebook.md": text, **pictures}


def on_page_markdown(markdown: str, **_: object) -> str:
    """Links to a study's folder, and to the notebook, lead to their pages of the site."""
    markdown = markdown.replace("](notebook.ipynb)", "](notebook.md)")
    return re.sub(r"\]\(\.\./studies/results/(\w+)/README\.md\)", r"](studies/\1.md)", markdown)


def rooms() -> Iterator[tuple[str, tuple[str, ...]]]:
    """The packages with the names that they export."""
    for found in pkgutil.walk_packages(gradiograph.__path__, "gradiograph."):
        if found.ispkg:
            exported = getattr(importlib.import_module(found.name), "__all__", ())
            if exported:
                yield found.name, tuple(sorted(exported, key=str.lower))


def undocumented() -> Iterator[str]:
    """Public functions and classes, and settings of components, that nothing is said of."""
    for room, names in rooms():
        module = importlib.import_module(room)
        for name in names:
            value = getattr(module, name)
            if _is_code(value) and not inspect.getdoc(value):
                yield f"{room}.{name}"
    for kind in registry.KINDS:
        for component in registry.components(kind):
            if not component.summary:
                yield f"{kind} {component.name}"
            told = component.documentation
            yield from (
                f"{kind} {component.name}: {name}"
                for name, _, _ in component.describe_settings()
                if not re.search(rf"^\s*{re.escape(name)}\b.*:", told, flags=re.MULTILINE)
            )


def components() -> str:
    """Every component: what it does, where it comes from, its settings."""
    lines = ["# Components", "", "From the registry; `gradiograph show KIND NAME` prints the same.", ""]
    for kind in registry.KINDS:
        lines += [f"## {kind}", ""]
        for component in registry.components(kind):
            lines += [f"### `{component.name}`", "", *_prose(component.documentation), ""]
            if component.paper:
                lines += [f"Paper: {component.paper}", ""]
            settings = component.describe_settings()
            if settings:
                lines += ["| Setting | Takes | Default |", "|---|---|---|"]
                lines += [f"| `{name}` | {_cell(takes)} | `{_cell(default)}` |" for name, takes, default in settings]
                lines += [""]
    return "\n".join(lines)


def python() -> str:
    """Every name that a room exports, with its signature."""
    lines = ["# Python", "", "What each room exports. Everything else is private.", ""]
    for room, names in rooms():
        module = importlib.import_module(room)
        lines += [f"## `{room}`", "", *_prose(inspect.getdoc(module) or ""), ""]
        for name in names:
            value = getattr(module, name)
            lines += [f"### `{name}`", ""]
            if callable(value):
                lines += [
                    "```python",
                    f"{name}{_signature(value)}",
                    "```",
                    "",
                    *_prose(inspect.getdoc(value) or ""),
                    "",
                ]
    return "\n".join(lines)


def command_line() -> str:
    """Every verb with its arguments and options."""
    lines = ["# Command line", "", "Exit codes: 0 done; 1 a policy or a claim fails; 2 bad input; 130 interrupted.", ""]
    root = typer.main.get_command(app)
    for name, command in sorted(_commands(root, "gradiograph")):
        lines += [f"## `{name}`", "", *_prose(inspect.cleandoc(command.help or "")), ""]
        shown = [parameter for parameter in command.params if parameter.name != "help"]
        rows = [f"| `{_option(parameter)}` | {_cell(getattr(parameter, 'help', '') or '')} |" for parameter in shown]
        lines += ["| Takes | |", "|---|---|", *rows, ""] if rows else []
    return "\n".join(lines)


def _commands(command: click.Command, name: str) -> Iterator[tuple[str, click.Command]]:
    inner = getattr(command, "commands", None)
    if inner is None:
        yield name, command
        return
    for word, found in inner.items():
        yield from _commands(found, f"{name} {word}")


def _prose(text: str) -> list[str]:
    """A docstring as Markdown: its sections in bold, their entries as a list, nothing read as HTML."""
    lines: list[str] = []
    section = False
    for line in text.replace("<", "&lt;").splitlines():
        if re.fullmatch(r"(Args|Returns|Raises|Attributes|Yields):", line):
            section = True
            lines += ["", f"**{line[:-1]}**", ""]
        elif line and not line.startswith(" "):
            section = False
            lines.append(line)
        elif section and re.match(r"    \S", line):
            lines.append(f"- {line.strip()}")
        elif section and line.strip():
            lines.append(f"  {line.strip()}")
        else:
            lines.append(line)
    return lines


def _option(parameter: click.Parameter) -> str:
    return " ".join([*parameter.opts, *parameter.secondary_opts])


def _is_code(value: object) -> bool:
    return inspect.isclass(value) or inspect.isfunction(value)


def _signature(value: object) -> str:
    try:
        return str(inspect.signature(value))  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return "(...)"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")
