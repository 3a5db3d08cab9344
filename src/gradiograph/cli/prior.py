"""`gradiograph prior train`: what an attacker who has films of the same kind knows of films."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console
from rich.progress import Progress

from gradiograph import audit
from gradiograph.cli.arguments import AuditFile, Overrides

if TYPE_CHECKING:
    from gradiograph.audit import GeneratorQuality, RestorerQuality, Spec

console = Console(highlight=False)
priors = typer.Typer(help="Priors on films, learned from public ones.", no_args_is_help=True)


@priors.callback()
def _group() -> None:
    """Priors on films, learned from public ones."""


@priors.command("train")
def train_prior(
    file: AuditFile,
    override: Overrides = None,
    out: Annotated[Path, typer.Option(help="The file to write, new.")] = Path("prior.npz"),
    kind: Annotated[
        Literal["eigen", "generator", "restorer"],
        typer.Option(help="Principal components, a generator of films, or a network that restores and denoises them."),
    ] = "eigen",
    components: Annotated[int, typer.Option(min=1, help="Of eigen and generator: size of the latent.")] = 256,
    steps: Annotated[
        int, typer.Option(min=1, help="Of generator and restorer: of the training; 16 films each.")
    ] = 1500,
    rehearse: Annotated[
        int, typer.Option(min=0, help="Of restorer: batches of public films that the audit's first attack finds first.")
    ] = 0,
) -> None:
    """Learn what films look like from an audit's public ones."""
    spec = audit.load_spec(file, override or ())
    if kind == "eigen":
        _fit_components(spec, file.parent, out, components)
    elif kind == "generator":
        _train_generator(spec, file.parent, out, components, steps)
    else:
        _train_restorer(spec, file.parent, out, steps, rehearse)
    console.print(f"Prior: {out.resolve()}", soft_wrap=True)


def _fit_components(spec: Spec, folder: Path, out: Path, components: int) -> None:
    found = audit.train_prior(spec, folder, out, components)
    console.print(f"Fitted {components} components to {found.films} public films of {found.patients} patients.")
    console.print(f"They hold {found.explained:.1%} of the variance of these films.")
    console.print(
        f"Of films of patients left out, such components hold {found.explained_held_out:.1%} "
        f"({found.held_out_films} films of {found.held_out_patients} patients; fitted to the others)."
    )
    if found.mask_components:
        console.print(f"Beside them {found.mask_components} components of these films' masks.")
    console.print(f"{found.patients_per_component:.1f} patients per component.")
    if found.patients_per_component < audit.FEW_PATIENTS:
        console.print(
            f"Warning: fewer than {audit.FEW_PATIENTS} patients per component. A component could be one patient's "
            "film: treat the file as you treat the films, or lower --components."
        )


def _train_generator(spec: Spec, folder: Path, out: Path, components: int, steps: int) -> None:
    with _bar("training the generator") as progress:
        found = audit.train_generator(spec, folder, out, components, steps, progress)
    _told_training(found)
    console.print(f"On {found.held_out_films} films of other patients, beside the components that it began as:")
    console.print(f"  shown with {found.shown_psnr:.1f} dB of PSNR, by the components {found.components_psnr:.1f}")
    console.print(f"  evidence {found.bound:.3f} nats a pixel, of the components {found.components_bound:.3f}")
    _told_samples(found)


def _train_restorer(spec: Spec, folder: Path, out: Path, steps: int, rehearse: int) -> None:
    with _bar("training the restorer") as progress:
        found = audit.train_restorer(spec, folder, out, steps, rehearse, progress)
    _told_training(found)
    if found.rehearsed:
        console.print(f"Among them {found.rehearsed} that the attack itself had reconstructed.")
    console.print(f"On {found.held_out_films} films of other patients, in dB of PSNR:")
    console.print(f"  degraded {found.degraded_psnr:.1f}, restored {found.restored_psnr:.1f}", end="")
    console.print(f"; the mean film {found.mean_film_psnr:.1f}")
    _told_samples(found)


def _told_training(found: GeneratorQuality | RestorerQuality) -> None:
    console.print(f"Trained on {found.films} public films of {found.patients} patients, {found.steps} steps.")


def _told_samples(found: GeneratorQuality | RestorerQuality) -> None:
    console.print(
        f"Of films drawn from it, {found.sampled_near_trained:.0%} are nearest to one that it was trained on, and not "
        "to one of as many held-out films; about 50 % if it knows none by heart."
    )


@contextmanager
def _bar(what: str) -> Iterator[Callable[[float], None]]:
    with Progress(console=Console(stderr=True)) as bar:
        task = bar.add_task(what, total=1.0)
        yield lambda done: bar.update(task, completed=done)
