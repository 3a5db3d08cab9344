"""The privacy section of a model card, or of the README of a MONAI bundle: Markdown to paste."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradiograph.report.failures import not_measured
from gradiograph.report.markdown import plain
from gradiograph.report.privacy import guarantee
from gradiograph.report.results import UNDEFENDED, Results
from gradiograph.report.taxonomy import threat_class
from gradiograph.report.verdict import judge
from gradiograph.report.wording import assumptions

if TYPE_CHECKING:
    from gradiograph.log import Log


def render_card(log: Log) -> str:
    """What a reader of a model must know of its training's privacy, in a page.

    Args:
        log: The run.

    Returns:
        Markdown; texts of the log cannot bring in markup of their own.

    Raises:
        LogProblem: nothing was scored yet.
    """
    results = Results.read(log)
    judgement, header = judge(results), results.header
    threat = threat_class(header["threat"])
    lines = [
        "## Privacy of the training updates",
        "",
        f"Audited with Gradiograph {plain(str(header['environment'].get('gradiograph', '')))} "
        f"on {plain(header['created'][:10] or 'an unknown day')}: {plain(header['purpose'])}.",
        "",
        f"**{plain(judgement.headline)}** {plain(judgement.meaning)}",
        "",
        "| Protection | Finding | Formal guarantee |",
        "|---|---|---|",
    ]
    for verdict in judgement.verdicts:
        name = "none" if verdict.defence == UNDEFENDED else verdict.defence
        cells = (name, f"{verdict.status.value}: {verdict.sentence}", guarantee(results, verdict.defence))
        lines.append(f"| {' | '.join(plain(cell).replace('|', '/') for cell in cells)} |")
    lines += ["", f"Attacker: {threat.letter}, {threat.name} (Carletti et al. 2025): {threat.why}.", ""]
    lines += [f"- {plain(question)} {plain(answer)}" for question, answer, _ in assumptions(header["threat"])]
    lines += ["", "Not tested:", ""]
    lines += [f"- {plain(entry.what)}: {plain(entry.why)}" for entry in not_measured(results)]
    lines += ["- queries to the finished model, membership, and whatever the attacker above is not granted", ""]
    return "\n".join(lines)
