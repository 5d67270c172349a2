"""Decisions follow from what was found and the policy alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.apps.review import answer, verdict
from serving.apps.review.policy import Policy
from serving.apps.review.policy_file import Rules
from serving.apps.review.verdict import Text, judge

POLICY = Policy.parse(
    """
policy: house
version: "7"
thresholds: {sexual: {review: 0.4, block: 0.8}}
text_confidence: 0.6
terms:
  games: {category: gambling-advertising, action: block, terms: [百家乐, free spins]}
  contact: {category: contact-solicitation, action: review, terms: [加微信]}
  law: {category: illicit, action: review, terms: [盗播]}
""",
    where="policy.yaml",
)
RULES = Rules(POLICY, POLICY.matcher(), "ab" * 32)


def line(text: str, confidence: float = 0.9, y: float = 0) -> answer.Line:
    return answer.Line(
        polygon=[(0, y), (99, y), (99, y + 20), (0, y + 20)], text=text, confidence=confidence, direction=0
    )


def image(*lines: answer.Line, sexual: float = 0.0, place: int = 0) -> answer.Image:
    frame = answer.Frame(frame=0, scores={"sexual": sexual}, lines=list(lines))
    return answer.Image(input=place, format="PNG", width=100, height=50, frames=1, looked_at=[frame])


def test_a_text_passes() -> None:
    result = judge(RULES, [Text(0, "今天天气很好")], [])
    assert not result.flagged
    assert result.headend.decision == "pass"
    assert result.headend.reasons == []
    assert not any(result.categories.values())


@pytest.mark.parametrize(
    ("text", "decision", "categories"),
    [
        ("玩百家乐", "block", {"gambling-advertising"}),
        ("加微信", "review", {"contact-solicitation"}),
        ("加微信玩百家乐", "block", {"gambling-advertising", "contact-solicitation"}),
        ("百，家，乐", "review", {"gambling-advertising"}),  # punctuation may join unrelated words
        ("盗播", "review", {"illicit"}),
    ],
)
def test_terms_decide(text: str, decision: str, categories: set[str]) -> None:
    result = judge(RULES, [Text(0, text)], [])
    assert result.flagged
    assert result.headend.decision == decision
    assert {name for name, flagged in result.categories.items() if flagged} == categories
    assert {name for name, score in result.category_scores.items() if score} == categories


@pytest.mark.parametrize(("score", "decision"), [(0.1, "pass"), (0.4, "review"), (0.8, "block")])
def test_scores_decide(score: float, decision: str) -> None:
    result = judge(RULES, [], [image(sexual=score)])
    assert result.headend.decision == decision
    assert result.category_scores["sexual"] == score
    assert result.categories["sexual"] is (decision != "pass")


def test_it_says_what_it_can_judge() -> None:
    of_text = judge(RULES, [Text(0, "a")], [])
    assert of_text.headend.judged == ["contact-solicitation", "gambling-advertising", "illicit"]
    assert of_text.category_applied_input_types["illicit"] == ["text"]
    assert of_text.category_applied_input_types["sexual"] == []
    of_image = judge(RULES, [], [image()])
    assert of_image.headend.judged == ["contact-solicitation", "gambling-advertising", "illicit", "sexual"]
    assert of_image.category_applied_input_types["sexual"] == ["image"]
    for result in (of_text, of_image):
        assert set(verdict.OPENAI_CATEGORIES) <= set(result.categories)
        assert (
            set(result.categories) == set(result.category_scores) == set(result.category_applied_input_types)
        )


def test_a_term_in_a_text_is_where_it_is() -> None:
    (term,) = judge(RULES, [Text(2, "来玩百家樂")], []).headend.evidence.terms
    assert (term.where, term.input, term.start, term.end, term.found) == ("text", 2, 2, 5, "百家樂")
    assert (term.term_list, term.term, term.category) == ("games", "百家乐", "gambling-advertising")


def test_a_term_in_a_picture_is_where_it_is() -> None:
    picture = image(line("新闻"), line("来玩百家乐", y=30), place=1)
    (term,) = judge(RULES, [], [picture]).headend.evidence.terms
    assert (term.where, term.input, term.frame, term.lines) == ("image", 1, 0, [1])
    assert (term.start, term.end, term.confidence) == (2, 5, 0.9)
    assert term.boxes == [[(0, 30), (99, 30), (99, 50), (0, 50)]]


def test_a_term_may_run_on_into_the_next_line() -> None:
    picture = image(line("x", 0.1), line("get free", y=30), line("spins now", 0.8, y=60))
    (term,) = judge(RULES, [], [picture]).headend.evidence.terms
    assert (term.lines, term.start, term.end, term.confidence) == ([1, 2], 4, 5, 0.8)
    assert term.action == "block"
    (term,) = judge(RULES, [], [image(line("百家"), line("乐"))]).headend.evidence.terms
    assert (term.lines, term.action) == ([0, 1], "review")


def test_unsure_text_is_shown_and_does_not_count() -> None:
    result = judge(RULES, [], [image(line("百家乐", 0.5))])
    assert result.headend.decision == "pass"
    assert result.headend.evidence.images[0].looked_at[0].lines[0].text == "百家乐"


def test_evidence_is_bounded_and_nothing_is_overlooked() -> None:
    result = judge(RULES, [Text(0, "加微信" * 500 + "百家乐")], [])
    assert result.headend.decision == "block"
    assert result.headend.evidence.terms_found == 501
    assert len(result.headend.evidence.terms) == verdict.TERMS_SHOWN
    assert result.headend.evidence.terms[0].term == "百家乐"


def test_the_policy_is_named_with_its_state() -> None:
    current = judge(RULES, [], []).headend.policy
    assert (current.name, current.version, current.status) == ("house", "7+sha256.abababababab", "current")
    stale = judge(Rules(POLICY, RULES.matcher, RULES.digest, "policy.yaml: broken"), [], []).headend.policy
    assert (stale.status, stale.error) == ("stale", "policy.yaml: broken")


TEXTS = st.text("百家乐加微信 ，盗播好", max_size=20)


@given(st.lists(TEXTS, max_size=3), st.lists(st.tuples(st.floats(0, 1), TEXTS, st.floats(0, 1)), max_size=3))
def test_flags_reasons_and_decision_agree(texts: list[str], pictures: list[tuple[float, str, float]]) -> None:
    images = [image(line(text, sure), sexual=score) for score, text, sure in pictures]
    result = judge(RULES, [Text(i, text) for i, text in enumerate(texts)], images)
    headend = result.headend
    assert result.flagged == any(result.categories.values()) == (headend.decision != "pass")
    flagged = {name for name, flag in result.categories.items() if flag}
    assert {reason.category for reason in headend.reasons} == flagged <= set(headend.judged)
    assert ("block" in {reason.action for reason in headend.reasons}) == (headend.decision == "block")
    for name, score in result.category_scores.items():
        assert 0 <= score <= 1
        assert not score or result.category_applied_input_types[name]
