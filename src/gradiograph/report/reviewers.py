"""What reviewers ask, and where the report answers."""

from __future__ import annotations

from typing import NamedTuple


class Question(NamedTuple):
    """One question: where it comes from, what it asks, and where the answer stands; None where it is the user's."""

    source: str
    asks: str
    section: str | None
    answer: str


QUESTIONS = (
    Question(
        "GDPR, Art. 35(7)(a)", "A systematic description of the processing and its purposes", "wire",
        "purpose and authorisation at the top, what leaves the client; the processing as a whole is yours to describe",
    ),
    Question(
        "GDPR, Art. 35(7)(b)", "Necessity and proportionality", "utility",
        "what each protection costs the model; whether that is proportionate is yours to judge",
    ),
    Question(
        "GDPR, Art. 35(7)(c)", "The risks to the rights and freedoms of data subjects", "risks",
        "residual risks by protection, the patient who is exposed most first",
    ),
    Question(
        "GDPR, Art. 35(7)(d)", "The measures envisaged to address the risks", "leakage",
        "every protection that was tested, and what it stopped",
    ),
    Question(
        "EDPB Opinion 28/2024, on personal data in AI models",
        "How likely is it that personal data of those whose data trained the model is extracted from it, directly or "
        "by queries, with all means reasonably likely to be used?", "untested",
        "updates were attacked, not queries to the finished model; 'not breached' says nothing of the finished model",
    ),
    Question(
        "EDPB Opinion 28/2024, on documentation",
        "Is the resistance to known attacks, reconstruction and membership among them, tested and documented?",
        "leakage", "reconstruction, beside its controls; membership only where a table says so",
    ),
    Question(
        "NIST SP 800-226", "The unit of privacy: whose presence is hidden?", "privacy",
        "in the same cell as epsilon, with the patient's own where the unit is smaller",
    ),
    Question(
        "NIST SP 800-226", "The privacy parameters, and how they compose", "privacy",
        "over all rounds, by two accountants that share no code",
    ),
    Question(
        "NIST SP 800-226", "The trust model: who sees what before noise is added?", "assumptions",
        "the threat model, and per protection from whom it hides",
    ),
    Question(
        "NIST SP 800-226", "Side channels, data collection and access control around the mechanism", None,
        "not tested by this tool",
    ),
    Question(
        "HIPAA, 45 CFR 164.514(b)(2)(i)", "The identifiers (A) to (R) of the Safe Harbor method", "inputs",
        "what the scan of the input found, by letter, and what it did not check",
    ),
    Question(
        "CLAIM, item 12", "How the data were de-identified", "inputs",
        "the evidence of the de-identification, where the input brings it",
    ),
)  # fmt: skip
