"""Sentences are slices of their text, and facts are counted where they are."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagekeeper.core.languages import language_of
from pagekeeper.core.sentences import (
    FULL_WEIGHT,
    JUDGED_CHARS,
    SENTENCE_CHARS_MAX,
    WORD,
    facts_of,
    is_filler,
    names_in,
    recall_likelihood_percent_of,
    split_sentences,
)
from tests.unit.hostile_text import hostile_texts

documents = hostile_texts | st.lists(hostile_texts, max_size=12).map("\n".join)


@given(documents)
def test_sentences_are_slices_and_white_space_is_all_between_them(text: str) -> None:
    end = 0
    for sentence in split_sentences(text):
        assert text[sentence.start : sentence.start + len(sentence.text)] == sentence.text
        assert sentence.text == sentence.text.strip()
        assert not text[end : sentence.start].strip()
        assert sentence.code or len(sentence.text) <= SENTENCE_CHARS_MAX
        end = sentence.start + len(sentence.text)
    assert not text[end:].strip()


@given(documents)
def test_every_sentence_can_be_judged(text: str) -> None:
    for sentence in split_sentences(text):
        assert facts_of(sentence.text).weight >= 0


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("", []),
        ("Hi Mel! How are you? Fine.", ["Hi Mel!", "How are you?", "Fine."]),
        ("Dr. Smith met J. Doe at 10.30 a.m. in St. Ives. Then they left.",
         ["Dr. Smith met J. Doe at 10.30 a.m. in St. Ives.", "Then they left."]),
        ("Use e.g. v2.15.1 of it. Done...  Really?", ["Use e.g. v2.15.1 of it.", "Done...", "Really?"]),
        ("- one thing\n- another. And more\n3. third", ["- one thing", "- another.", "And more", "3. third"]),
        ("wrapped here and\nit goes on. New\nLine", ["wrapped here and\nit goes on.", "New", "Line"]),
        ("Look:\n```py\nx = 1. + 2\n\ny = 3\n```\nDone.", ["Look:", "```py\nx = 1. + 2\n\ny = 3\n```", "Done."]),
        ("```\nnever closed. It is", ["```\nnever closed. It is"]),
        ("今日は晴れです。明日は雨。", ["今日は晴れです。", "明日は雨。"]),
        ('He said "no." Then he left.', ['He said "no."', "Then he left."]),
        ("x" * 2_500, ["x" * 1_000, "x" * 1_000, "x" * 500]),
        # Ordinals and abbreviations of other languages.
        ("Es beginnt am 3. Juni. Dann sehen wir weiter.", ["Es beginnt am 3. Juni.", "Dann sehen wir weiter."]),
        ("Vom 1. und 2. Mai, im 3. Stock, z. B. bei uns.", ["Vom 1. und 2. Mai, im 3. Stock, z. B. bei uns."]),
        ("Der Zug fährt von Gleis 9. Er ist nie da.", ["Der Zug fährt von Gleis 9.", "Er ist nie da."]),
        ("Ich kam am 12. August mit ca. 40 Euro an.", ["Ich kam am 12. August mit ca. 40 Euro an."]),
        ("I moved in when I was 12. August came late.", ["I moved in when I was 12.", "August came late."]),
        ("J'ai vu M. Petit et Mme. Roy. Ils vont bien.", ["J'ai vu M. Petit et Mme. Roy.", "Ils vont bien."]),
        ("Vi a la Sra. Paz. Vive en EE.UU. desde mayo.", ["Vi a la Sra. Paz.", "Vive en EE.UU. desde mayo."]),
        ("Она родилась в 1958 г. в Риге. Т.е. давно.", ["Она родилась в 1958 г. в Риге.", "Т.е. давно."]),
        ("Это было в 1958 г. Потом мы уехали.", ["Это было в 1958 г.", "Потом мы уехали."]),
        ("你好！「他来了。」我们走吧。", ["你好！", "「他来了。」", "我们走吧。"]),
        ("終わり｡次です。本当？はい。", ["終わり｡", "次です。", "本当？", "はい。"]),
        ("वह आया। हम चले।", ["वह आया।", "हम चले।"]),
    ],
)  # fmt: skip
def test_splitting(text: str, sentences: list[str]) -> None:
    assert [sentence.text for sentence in split_sentences(text)] == sentences


def test_facts() -> None:
    decided = facts_of("On 7 May 2023 we decided to pay Caroline $1,200 for `parse_page`.")
    assert (decided.numbers, decided.decisions, decided.names, decided.identifiers) == (3, 1, 2, 1)
    assert not decided.filler
    assert facts_of("That sounds great, Mel!").filler
    assert facts_of("Did you see it?").question
    assert decided.weight > 4 * facts_of("We then went to see how it would look in the evening.").weight


@pytest.mark.parametrize(
    ("text", "filler"),
    [
        ("Hey there!", True),
        ("Thanks so much, that's really kind of you.", True),
        ("I hope this helps!", True),
        ("Yes, the invoice from Berlin was paid by transfer on Monday morning.", False),
        ("The server runs NATS.", False),
    ],
)
def test_filler(text: str, filler: bool) -> None:  # noqa: FBT001 - a table of cases
    assert is_filler(text) == filler


def test_names_are_capitals_that_no_sentence_began() -> None:
    assert names_in("Yesterday Caroline met Élodie. Then NASA called. Nothing else.") == ["Caroline", "Élodie", "NASA"]
    assert names_in("on iPhones, _Harbour and eLyon") == []


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("Wir haben die Miete für das Büro in Hamburg mit Herrn Weber und Anna Lind besprochen.",
         ["Hamburg", "Weber", "Anna", "Lind"]),
        ("Der Vertrag mit PostgreSQL und der NATO ist eine Verpflichtung aus Überzeugung.", ["PostgreSQL", "NATO"]),
        ("Nous avons vu l'Oise avec Élodie, puis Paul est venu.", ["Oise", "Élodie", "Paul"]),
        ("Мы говорили с Вебером из банка о NATS.", ["Вебером", "NATS"]),
        ("我今天和韦伯先生谈了MongoDB。", ["韦伯", "MongoDB"]),
        ("田中さんはDHLと話しました。", ["田中", "DHL"]),
    ],
)  # fmt: skip
def test_names_of_other_languages(text: str, names: list[str]) -> None:
    """A German noun is no name; scripts without capitals have names by their honorifics."""
    assert names_in(text) == names


@pytest.mark.parametrize(
    ("text", "decisions", "numbers", "filler"),
    [
        ("Wir haben am 3. Juni beschlossen, den Vertrag zu kündigen.", 2, 2, False),
        ("Nous avons décidé de reporter la date au 3 juin.", 2, 2, False),
        ("Hemos decidido aplazar la reunión al lunes.", 2, 1, False),
        ("Мы решили перенести встречу на понедельник.", 2, 1, False),
        ("我们决定取消3月5日的会议。", 2, 2, False),
        ("会議は3月5日に延期すると決めました。", 2, 2, False),
        ("Vielen Dank für deine Nachricht!", 0, 0, True),
        ("Merci beaucoup pour ton message !", 0, 0, True),
        ("¡Muchas gracias por tu mensaje!", 0, 0, True),
        ("Большое спасибо за твоё сообщение!", 0, 0, True),
        ("非常感谢你的关心！", 0, 0, True),
        ("本当にありがとうございます！", 0, 0, False),  # an opening is read from its first word
        ("ありがとうございます！", 0, 0, True),
    ],
)
def test_facts_of_other_languages(text: str, decisions: int, numbers: int, filler: bool) -> None:  # noqa: FBT001
    facts = facts_of(text)
    assert (facts.decisions, facts.numbers, facts.filler) == (decisions, numbers, filler)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("The die was cast on the day.", "en"),
        ("Ich habe das nicht gewusst.", "de"),
        ("Je ne suis pas sûr.", "fr"),
        ("No sé si es importante para ustedes.", "es"),
        ("Не знаю, важно ли это.", "ru"),
        ("我不知道这重不重要。", "zh"),
        ("大事かどうかわかりません。", "ja"),
        ("Tokyo 東京 is where the meeting was.", "en"),
        ("Wir met with the Der Spiegel team, and they were kind to us.", "en"),
        ("", "en"),
    ],
)
def test_the_language_is_the_one_of_most_function_words(text: str, code: str) -> None:
    assert language_of(text, set(WORD.findall(text.lower()))).code == code


@given(text=hostile_texts, rest=hostile_texts)
def test_recall_likelihood_is_a_share_and_of_the_beginning(text: str, rest: str) -> None:
    assert 0 <= recall_likelihood_percent_of(text) <= 100
    assert recall_likelihood_percent_of(text.ljust(JUDGED_CHARS) + rest) == recall_likelihood_percent_of(
        text.ljust(JUDGED_CHARS)
    )


LETTERS = str.maketrans("01", "xy")
messages = st.lists(
    st.sampled_from(
        ["Great", "thanks", "So", "glad", "to", "hear", "Oh", "parcel", "depot", "Lyon", "12:30", "took_ms", "agreed"]
    )
    | hostile_texts
)


@given(
    opening=st.sampled_from(["", "Great, thanks! ", "Hi there! How are you? "]),
    text=st.just("") | messages.map(" ".join),
    words=st.integers(0, 30) | st.integers(35, 41),
    ends=st.sampled_from([".", "?", ", Mel!"]),
)
def test_recall_likelihood_goes_by_all_facts_however_soon_it_is_known(
    opening: str, text: str, words: int, ends: str
) -> None:
    message = f"{opening}{text} {' '.join(f'{one:b}'.translate(LETTERS) for one in range(words))}{ends}"
    full = min(1.0, facts_of(message[:JUDGED_CHARS]).weight / FULL_WEIGHT)
    assert recall_likelihood_percent_of(message) == round(100 * full * full)


def test_what_tells_more_is_likelier_to_be_recalled() -> None:
    asked = "When is the launch of Harbour, and does Anna Lind of the audit team know?"
    told = "Anna Lind moved the launch of Harbour from 4 May to 12 June, because the audit found 37 open ports."
    assert (
        recall_likelihood_percent_of("Thanks, that helps!")
        < recall_likelihood_percent_of(asked)
        < recall_likelihood_percent_of(told)
    )
