"""From what was sent and seen to a decision: a pure function of texts, pictures and policy."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

from serving.apps.review import answer
from serving.apps.review.answer import InputType
from serving.apps.review.policy import SCORED, Action, Decision
from serving.apps.review.policy_file import Rules
from serving.apps.review.terms import Match

OPENAI_CATEGORIES = (
    "harassment",
    "harassment/threatening",
    "hate",
    "hate/threatening",
    "illicit",
    "illicit/violent",
    "self-harm",
    "self-harm/instructions",
    "self-harm/intent",
    "sexual",
    "sexual/minors",
    "violence",
    "violence/graphic",
)
"""Every result has them all; `headend.judged` says which of them mean something."""

TERMS_SHOWN = 100
"""Matches in one result's evidence; all of them count."""

_SEVERITY: dict[Decision, int] = {"pass": 0, "review": 1, "block": 2}


@dataclass(frozen=True)
class Text:
    """A text that was sent; `input` is its place among the parts of the input."""

    input: int
    text: str


def judge(rules: Rules, texts: Sequence[Text], images: Sequence[answer.Image]) -> answer.Result:
    """The result for one input, made of `texts` and `images`. Takes time in the length of the texts."""
    terms = sorted(_terms(rules, texts, images), key=lambda term: (-_SEVERITY[term.action], -term.confidence))
    scores = _scores(images)
    reasons = [*_score_reasons(rules, scores), *_term_reasons(terms)]
    judged_by = _judged_by(rules, bool(texts), bool(images))
    for term in terms:
        scores[term.category] = max(scores.get(term.category, 0.0), term.confidence)
    actions: list[Decision] = ["pass", *(reason.action for reason in reasons)]
    flagged = {reason.category for reason in reasons}
    names = sorted({*OPENAI_CATEGORIES, *judged_by})
    return answer.Result(
        flagged=bool(flagged),
        categories={name: name in flagged for name in names},
        category_scores={name: scores.get(name, 0.0) for name in names},
        category_applied_input_types={name: judged_by.get(name, []) for name in names},
        headend=answer.Headend(
            decision=max(actions, key=_SEVERITY.__getitem__),
            reasons=reasons,
            judged=sorted(judged_by),
            policy=_status(rules),
            evidence=answer.Evidence(terms=terms[:TERMS_SHOWN], terms_found=len(terms), images=list(images)),
        ),
    )


def _status(rules: Rules) -> answer.PolicyStatus:
    return answer.PolicyStatus(
        name=rules.policy.policy,
        version=rules.version,
        status="stale" if rules.error else "current",
        error=rules.error or None,
    )


def _judged_by(rules: Rules, texts: bool, images: bool) -> dict[str, list[InputType]]:
    """By category: `text` when text, sent or read in a picture, was searched for terms; `image` if scored."""
    judged: dict[str, list[InputType]] = {}
    if texts or images:
        judged |= {entry.category: ["text"] for entry in rules.policy.terms.values()}
    if images:
        for category in SCORED:
            judged.setdefault(category, []).append("image")
    return judged


def _scores(images: Sequence[answer.Image]) -> dict[str, float]:
    """The highest score of each category over all frames."""
    highest: dict[str, float] = {}
    for frame in (frame for image in images for frame in image.looked_at):
        for category, score in frame.scores.items():
            highest[category] = max(highest.get(category, 0.0), score)
    return highest


def _score_reasons(rules: Rules, scores: dict[str, float]) -> Iterator[answer.Reason]:
    for category, threshold in sorted(rules.policy.thresholds.items()):
        score = scores.get(category, 0.0)
        if category in scores and (action := threshold.action(score)):
            yield answer.Reason(category=category, action=action, score=score, because="score")


def _term_reasons(terms: Sequence[answer.Term]) -> list[answer.Reason]:
    """The strongest match of each category; `terms` has the strongest first."""
    strongest: dict[str, answer.Term] = {}
    for term in terms:
        strongest.setdefault(term.category, term)
    return [
        answer.Reason(category=category, action=term.action, score=term.confidence, because="term")
        for category, term in strongest.items()
    ]


def _terms(rules: Rules, texts: Sequence[Text], images: Sequence[answer.Image]) -> Iterator[answer.Term]:
    for text in texts:
        for match in rules.matcher.find(text.text):
            yield _term(rules, match, where="text", input=text.input, start=match.start, end=match.end)
    for image in images:
        for frame in image.looked_at:
            yield from _terms_in_frame(rules, image.input, frame)


def _terms_in_frame(rules: Rules, place: int, frame: answer.Frame) -> Iterator[answer.Term]:
    """Terms in the lines of a frame that were read well enough; also those that run on into the next line."""
    read = [i for i, line in enumerate(frame.lines) if line.confidence >= rules.policy.text_confidence]
    texts = [frame.lines[i].text for i in read]
    starts = [0, *accumulate(len(text) + 1 for text in texts)]
    for match in rules.matcher.find("\n".join(texts)):
        first, last = bisect_right(starts, match.start) - 1, bisect_right(starts, match.end - 1) - 1
        lines = read[first : last + 1]
        yield _term(
            rules,
            match,
            where="image",
            input=place,
            frame=frame.frame,
            lines=lines,
            boxes=[frame.lines[i].polygon for i in lines],
            start=match.start - starts[first],
            end=match.end - starts[last],
            confidence=min(frame.lines[i].confidence for i in lines),
        )


def _term(
    rules: Rules,
    match: Match,
    *,
    where: InputType,
    input: int,
    start: int,
    end: int,
    confidence: float = 1.0,
    frame: int | None = None,
    lines: list[int] | None = None,
    boxes: list[list[tuple[float, float]]] | None = None,
) -> answer.Term:
    found_in = rules.policy.terms[match.list]
    action: Action = "review" if match.inserted else found_in.action
    return answer.Term(
        category=found_in.category,
        term_list=match.list,
        term=match.term,
        found=match.text,
        inserted=match.inserted,
        action=action,
        confidence=confidence,
        where=where,
        input=input,
        start=start,
        end=end,
        frame=frame,
        lines=lines,
        boxes=boxes,
    )
