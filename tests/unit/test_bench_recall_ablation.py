"""The ablation leaves out every constant of recall, and measures prompts that fit."""

from dataclasses import asdict, replace

import pytest

from bench.quality.conversations import Conversation, Question, Turn
from bench.quality.evidence import BUDGETS, FITTING
from bench.quality.recall_ablation import NEUTRAL, SHIPPED, Asked, Indexed, gains, settings, settings_beside_residents
from pagekeeper.core.pages import MessageRole
from pagekeeper.core.recall import WEIGHTS

NOISE = "We talked about this and that for a while, as one does on a long day by the sea. " * 4
CONVERSATION = Conversation(
    "locomo",
    "locomo-dev-1",
    tuple(
        Turn("Ada: The harbour is 40 metres deep." if number == 7 else f"Ben: {number} {NOISE}", MessageRole.USER)
        for number in range(60)
    ),
    (Question("How deep is the harbour, did Ada say?", "40 metres", (7,), "fact"),),
)


def test_every_constant_is_left_out_by_a_value_that_is_not_its_own() -> None:
    shipped = asdict(WEIGHTS)
    assert set(NEUTRAL) == set(shipped)
    assert all(NEUTRAL[name] != value for name, value in shipped.items())
    names = [setting.name for setting in (*settings(), *settings_beside_residents()[1:])]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("setting", settings(), ids=lambda setting: setting.name)
def test_a_prompt_keeps_to_its_budget_and_finds_what_the_words_say(setting: object) -> None:
    (question,) = CONVERSATION.questions
    asked = Indexed(CONVERSATION).ask(question, setting)  # type: ignore[arg-type]
    assert asked.recall == (1.0,) * len(BUDGETS["locomo"])
    assert all(tokens <= budget for tokens, budget in zip(asked.tokens, BUDGETS["locomo"], strict=True))
    assert asked.held_out


def test_beside_residents_recall_adds_the_page_and_a_bound_saves_tokens() -> None:
    (question,) = CONVERSATION.questions
    indexed = Indexed(CONVERSATION)
    shipped, unbounded, *_ = settings_beside_residents()
    bounded = indexed.ask_beside(question, shipped)
    assert bounded.recall == (1.0,)
    assert bounded.tokens[0] <= FITTING["locomo"]
    assert bounded.tokens < indexed.ask_beside(question, unbounded).tokens
    assert indexed.ask_beside(question, replace(shipped, room=lambda *_: 0)).recall == (0.0,)


def test_a_gain_is_what_is_lost_without() -> None:
    def asked(*shares: float) -> list[Asked]:
        return [Asked("locomo", held_out=True, recall=(one, 1.0, 1.0, 1.0), tokens=(0,)) for one in shares]

    figures = {
        (figure.name, figure.system): figure.value
        for figure in gains({SHIPPED: asked(1.0, 0.5), "sharpness": asked(0.5, 0.5)})
    }
    assert figures["locomo 1,000: gain", "sharpness"] == 0.25
    assert figures["locomo, all budgets: gain", "sharpness"] == pytest.approx(0.0625, abs=1e-3)
    assert figures["locomo 1,000: from", "sharpness"] <= 0.25 <= figures["locomo 1,000: to", "sharpness"]
    assert figures["locomo 1,000", SHIPPED] == 0.75
