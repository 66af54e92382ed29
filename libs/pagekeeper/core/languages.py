"""Words of a language by their function: grammar, times, amounts, decisions.

English is the default; German, French, Spanish, Russian, Chinese and Japanese are told from it by their script and
their function words. Text of any other language is read as if it were English, whose words it has not: its words count
as content.

Tables of words, small enough to be read; nothing is looked up that could differ between machines. All words are lower
case. A stem stands for every word that begins with it.
"""

import re
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Final


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


def _stems(text: str) -> tuple[str, ...]:
    return tuple(text.split())


@dataclass(frozen=True, slots=True)
class Language:
    """Lower-case words by what they do.

    `function_words` say nothing by themselves; `dropped` are those of them that a telegram does without. `courtesies`
    are words of praise and agreement. `number_words` say how many or when. `decision_words`, and words that begin with
    a `decision_stem`, say that something was settled. `filler` matches the opening of a sentence that keeps a
    conversation going. `content` finds the words of a script that writes no spaces; None where spaces part words.
    """

    code: str
    function_words: frozenset[str]
    dropped: frozenset[str]
    number_words: frozenset[str]
    decision_stems: tuple[str, ...]
    filler: re.Pattern[str]
    decision_words: frozenset[str] = frozenset()
    courtesies: frozenset[str] = frozenset()
    capitalises_nouns: bool = False
    content: re.Pattern[str] | None = None


STOPWORDS: Final = _words(
    """
    a about above after again all also am an and any are aren't as at be been before being below between both but by
    can can't cannot could couldn't did didn't do does doesn't doing don't down during each few for from further get
    got had hadn't has hasn't have haven't having he he's her here hers herself him himself his how i i'd i'll i'm
    i've if in into is isn't it it's its itself just let's like me more most my myself no nor not now of off on once
    only or other our ours ourselves out over own really same she she's should shouldn't so some such than that
    that's the their theirs them themselves then there there's these they they're this those through to too under
    until up us very was wasn't we we're we've were weren't what what's when where which while who who's whom whose
    why will with won't would wouldn't yes you you'd you'll you're you've your yours yourself yourselves please tell
    know thing things something anything ever
    """
)
"""English words that say nothing by themselves."""

_ENGLISH_NUMBERS: Final = _words(
    """
    two three four five six seven eight nine ten eleven twelve dozen twenty thirty forty fifty hundred thousand
    million billion half twice third january february march april june july august september october november
    december monday tuesday wednesday thursday friday saturday sunday yesterday tomorrow tonight today weekend ago
    """
)
_ENGLISH_COURTESIES: Final = _words(
    """
    awesome amazing great cool nice wonderful fantastic inspiring proud glad happy excited love lovely important special
    super totally good best way lot make makes feel keep going wow hey thanks yeah definitely sure sounds hope agree
    """
)
_ENGLISH_DECISIONS: Final = _words(
    """
    decide decided decision agree agreed chose choose chosen picked settled conclude concluded conclusion approve
    approved reject rejected confirm confirmed cancel cancelled canceled must shall deadline due require required
    requires requirement never always instead because therefore cause prefer preferred prefers favorite favourite
    plan plans planned promise promised allergic born married moved bought started joined signed changed switched
    budget goal rule policy will won't going want wanted named called
    """
)
_ENGLISH_FILLER: Final = re.compile(
    r"\W*(?:hey|hi|hello|hiya|good (?:morning|evening|afternoon|night)|bye|goodbye|take care|see (?:you|ya)"
    r"|talk (?:to you )?soon|wow|oh|ah|aww*|haha\w*|lol|yay|yeah|yep|yes|nope?|sure|ok|okay|alright|right|exactly"
    r"|absolutely|definitely|totally|of course|certainly|great|awesome|amazing|cool|nice|perfect|wonderful|fantastic"
    r"|excellent|lovely|sounds \w+|thanks?|thank you|you['’]?re welcome|no (?:problem|worries)|my pleasure|glad"
    r"|that(?:['’]s| is| sounds) (?:so |really |very |such )?(?:a )?(?:great|awesome|amazing|cool|nice|wonderful"
    r"|fantastic|lovely|good|super)|happy to|congrat\w*|good (?:luck|job|for)|(?:what|how) about you|and you"
    r"|how(?:['’]s| is| are|['’]re) (?:it|you|things|everything)|what['’]?s up|i hope|let me know|feel free"
    r"|if you (?:have|need|want)|don['’]?t hesitate|keep (?:it )?up|can['’]?t wait"
    r"|(?:i['’]?m |i am )?so (?:happy|proud|excited|glad)"
    r"|i(?:['’]?m| am) (?:really )?(?:glad|happy|sorry) (?:to hear|for you|you))\b",
    re.IGNORECASE,
)
ENGLISH: Final = Language(
    code="en",
    function_words=STOPWORDS,
    dropped=frozenset(),  # which words go goes by more than the word: see `compress.english`
    number_words=_ENGLISH_NUMBERS,
    decision_stems=(),
    filler=_ENGLISH_FILLER,
    decision_words=_ENGLISH_DECISIONS,
    courtesies=_ENGLISH_COURTESIES,
)

_GERMAN_DROPPED: Final = _words(
    """
    der die das den dem des ein eine einen einem einer eines dieser diese dieses diesen diesem
    bin bist ist sind seid war waren warst wart wäre sei gewesen habe hast hat haben habt hatte hatten hattest hätte
    wird werden wurde wurden worden würde würden ich mich mir wir uns es sich mein meine meinen meinem meiner unser
    unsere unseren unserem unserer man
    von vom zu zum zur für mit bei beim an am in im auf um
    und so dann auch aber denn doch ja mal halt eben schon ganz sehr wirklich eigentlich ziemlich übrigens also dass
    wie was wo wer wen wem welche welcher welches gerne gern
    """
)
GERMAN: Final = Language(
    code="de",
    function_words=_GERMAN_DROPPED
    | _words(
        """
        er sie ihn ihm ihr ihre ihren ihrem ihrer sein seine seinen seinem seiner du dich dir euch euer eure deine dein
        deinen deinem deiner ihnen nicht kein keine keinen keinem keiner nichts nur noch nach aus über unter vor hinter
        bis seit durch ohne gegen oder weil wenn als ob damit darüber davon daran dazu danach dort hier da jetzt nun
        kann kannst können könnte könntest könntet soll sollte will wollte muss müssen möchte darf lass lassen bitte
        mehr immer schon viel viele alle alles etwas anderes anders jede jeden jeder selbst wieder
        """
    ),
    dropped=_GERMAN_DROPPED,
    decision_stems=_stems(
        """
        beschl entschied entscheid einig vereinb geeinigt wähl gewählt ausgesucht ausgewählt abgemacht genehmig abgelehn
        ablehn bestätig absag abgesagt storn kündig gekündigt muss müssen frist fällig brauch benötig nie niemals
        immer stattdessen statt weil deshalb daher grund bevorzug lieber liebling plan geplant versproch versprech
        allerg geboren heirat geheiratet umgezog umzieh gekauft kauf verkauf begonn beginn angefangen fang beigetret
        unterschr geändert ändert wechsel gewechselt verschob verschieb budget ziel regel richtlinie heiß genannt
        zugesagt zusag kürz
        """
    ),
    number_words=_words(
        """
        zwei drei vier fünf sechs sieben acht neun zehn elf zwölf dutzend zwanzig dreißig vierzig fünfzig hundert
        tausend million millionen milliarde halb halbe zweimal drittel januar februar märz april mai juni juli august
        september oktober november dezember montag dienstag mittwoch donnerstag freitag samstag sonntag gestern morgen
        heute abend wochenende
        """
    ),
    filler=re.compile(
        r"\W*(?:hallo|hi|hey|guten (?:morgen|tag|abend)|gute nacht|servus|moin|tschüss|bis (?:bald|dann|später)"
        r"|vielen dank|danke\w*|besten dank|bitte sehr|gern geschehen|kein problem|klar|genau|stimmt|super|toll|prima"
        r"|wunderbar|schön,? (?:dass|zu hören)|freut mich|ich hoffe|hoffentlich|wie geht|uns geht|mir geht|entschuldige"
        r"|entschuldigung|sorry|viel (?:glück|erfolg|spaß)|alles gute|lass es mich wissen"
        r"|ich freue mich|oh|ah|ach|wow)\b",
        re.IGNORECASE,
    ),
    capitalises_nouns=True,
)

_FRENCH_DROPPED: Final = _words(
    """
    le la les un une des du de au aux ce cet cette ces ça cela c'est c'était
    suis es est sommes êtes sont étais était étaient été être sera seront serait soit ai as a avons avez ont avais avait
    avaient j'ai j'avais je j'y me moi mon ma mes nous notre nos on se s'est y en
    à pour par avec dans sur chez et qui que dont donc alors aussi puis mais très bien vraiment assez tout tous toute
    toutes comme où l'on d'un d'une qu'il qu'elle qu'on
    """
)
FRENCH: Final = Language(
    code="fr",
    function_words=_FRENCH_DROPPED
    | _words(
        """
        il elle ils elles lui leur leurs son sa ses tu te toi ton ta tes vous votre vos ne pas n'est n'a n'en n'y non
        plus moins sans si s'il ou où quand avant après jusqu'à jusqu'au depuis entre ici là encore déjà toujours jamais
        autre même peu peux peut pouvez veut veux faut doit dois cela celui celle ceux rien quelque chose choses
        fait faire va vont parce qu'après ainsi au fait
        """
    ),
    dropped=_FRENCH_DROPPED,
    decision_stems=_stems(
        """
        décid décision accord convenu choisi conclu approuv rejet refus confirm annul doit devons devez échéance limite
        requis exig jamais toujours plutôt lieu parce donc cause préfér plan prévu promis promet allergi né née mari
        déménag achet commenc rejoin sign chang report budget objectif règle veu appel nomm résili
        """
    ),
    number_words=_words(
        """
        deux trois quatre cinq six sept huit neuf dix onze douze douzaine vingt trente quarante cinquante cent mille
        million millions milliard demi moitié tiers janvier février mars avril mai juin juillet août septembre octobre
        novembre décembre lundi mardi mercredi jeudi vendredi samedi dimanche hier demain aujourd'hui soir week-end
        """
    ),
    filler=re.compile(
        r"\W*(?:bonjour|salut|bonsoir|coucou|bonne (?:nuit|journée|soirée|chance)|au revoir|à (?:bientôt|plus|demain)"
        r"|merci\w*|de rien|je vous en prie|pas de (?:problème|souci)|bien sûr|d'accord|parfait|super|génial|magnifique"
        r"|j['’]espère|comment (?:allez|vas|ça)|ça va|nous allons bien|je vais bien|désolée?|pardon|félicitations"
        r"|je suis (?:content|ravi|heureu)\w*|n['’]hésite\w*|oh|ah|eh bien)\b",
        re.IGNORECASE,
    ),
)

_SPANISH_DROPPED: Final = _words(
    """
    el la los las un una unos unas lo al del de este esta estos estas ese esa esos esas eso esto
    soy eres es somos son era eran fue fueron fui ser sido estoy estás está estamos están estaba estaban estar estado he
    has ha hemos han había habían haber hay sea
    yo me mi mis mí nos nuestro nuestra nuestros nuestras nosotros se
    a en con por para y e que qué quien cual como muy también pero entonces así ya pues bueno bastante realmente
    """
)
SPANISH: Final = Language(
    code="es",
    function_words=_SPANISH_DROPPED
    | _words(
        """
        él ella ellos ellas le les su sus tú te ti tu tus usted ustedes vosotros vuestro vuestra os no ni si sí sin más
        menos o u cuando donde antes después hasta desde entre aquí allí ahora todavía otra otro otros otras vez siempre
        nunca mismo poco mucho mucha muchas muchos todo todos toda todas algo nada cosas cosa puede puedo pueden quiere
        quiero tiene tengo tienen debe debo va voy solo porque sobre
        """
    ),
    dropped=_SPANISH_DROPPED,
    decision_stems=_stems(
        """
        decid decisi acord acuerd elegi escog conclu aprob aprueb rechaz confirm cancel anul debe debo plazo requier
        nunca siempre vez lugar porque prefer prefier favorit plan prome alérgic nací nació casad casó mud compr empez
        empiez comenz firm cambi aplaz presupuesto objetivo regla quier llam descart rescind
        """
    ),
    number_words=_words(
        """
        dos tres cuatro cinco seis siete ocho nueve diez once doce docena veinte treinta cuarenta cincuenta cien ciento
        mil millón millones mitad medio tercio enero febrero marzo abril mayo junio julio agosto septiembre octubre
        noviembre diciembre lunes martes miércoles jueves viernes sábado domingo ayer mañana hoy noche anoche
        """
    ),
    filler=re.compile(
        r"\W*(?:hola|buen[oa]s (?:días|tardes|noches)|adiós|hasta (?:luego|pronto|mañana)"
        r"|(?:muchas |muchísimas )?gracias"
        r"|de nada|no hay (?:problema|de qué)|claro|por supuesto|de acuerdo|vale|perfecto|genial|estupendo|qué bien"
        r"|espero|cómo (?:est|va)\w*|nosotros estamos bien|estoy bien|perdón|lo siento|felicidades|enhorabuena"
        r"|me alegr\w*|no dudes|oh|ah)\b",
        re.IGNORECASE,
    ),
)

_RUSSIAN_DROPPED: Final = _words(
    """
    и а но в во на с со у к ко о об обо за по для это этот эта эти этого этой этом этому
    я мне меня мной мною мы нам нас нами мой моя мои моё моего моей моему моём наш наша наши нашего нашей
    был была было были есть быть бы же ли ведь вот так уже очень довольно просто что чтобы как кто который которая
    которое которые которого там тут тоже также ну
    """
)
RUSSIAN: Final = Language(
    code="ru",
    function_words=_RUSSIAN_DROPPED
    | _words(
        """
        он она оно они его её ее ему ей им их ним ней ты тебя тебе вы вас вам твой твоя ваш ваша не ни нет из от до без
        при под над после перед или если когда где потому иначе только ещё еще сейчас теперь опять снова всё все всех
        весь вся больше меньше может могу можно надо нужно нужен нужна хочет хочу будет буду здесь сюда себя сам очень
        """
    ),
    dropped=_RUSSIAN_DROPPED,
    decision_stems=_stems(
        """
        реши решен договор соглас выбра выбер выбор заключ утверд одобр отклон отказ подтверд отмен должн срок дедлайн
        требу нужн никогда всегда вместо потому поэтому причин предпоч любим план обеща аллерг родил женил замуж переех
        переед купи куплен прода начал начина вступ подпис измен меня сменил перенес перенёс перенос бюджет цел правил
        хоч хот зовут назван назыв расторг
        """
    ),
    number_words=_words(
        """
        два две три четыре пять шесть семь восемь девять десять одиннадцать двенадцать дюжина двадцать тридцать сорок
        пятьдесят сто тысяча тысяч тысячи миллион миллионов половина треть января февраля марта апреля мая июня июля
        августа сентября октября ноября декабря январь февраль март апрель май июнь июль август сентябрь октябрь ноябрь
        декабрь понедельник вторник среду четверг пятницу субботу воскресенье вчера завтра сегодня
        """
    ),
    filler=re.compile(
        r"\W*(?:привет|здравствуй\w*|добр(?:ое|ый|ой) \w+|до (?:свидания|встречи|завтра)|пока|спасибо\w*"
        r"|большое спасибо|не за что|пожалуйста|конечно|хорошо|ладно|отлично|прекрасно|замечательно|супер|надеюсь"
        r"|как (?:дела|вы|ты)|у (?:нас|меня) всё хорошо|извини\w*|прости\w*|поздравля\w*|рад[а]? |ого|ой)\b",
        re.IGNORECASE,
    ),
)

# A script that writes no spaces is parted where a word of grammar stands, and where the kind of character changes.
_LATIN: Final = r"[A-Za-z0-9\u00c0-\u024f][\w.:/-]*"
CHINESE: Final = Language(
    code="zh",
    function_words=frozenset(),
    dropped=frozenset(),
    decision_stems=_stems(
        "决定 決定 同意 商定 约定 选择 選擇 选了 结论 批准 否决 拒绝 确认 取消 必须 必須 截止 期限 需要 从不 总是"
        " 一定 因为 所以 原因 更喜欢 最喜欢 计划 答应 过敏 過敏 出生 结婚 搬 买 購買 购买 卖 开始 加入"
        " 签 改 换 推迟 延期 预算 目标 规则 政策 想要 叫 接受"
    ),
    number_words=frozenset(),
    filler=re.compile(
        r"\W*(?:你好|您好|大家好|早上好|晚上好|下午好|再见|拜拜|谢谢|謝謝|多谢|感谢|非常感谢|不客气|没关系"
        r"|没问题|当然|好的|太好了|真棒|希望|你们好|抱歉|对不起|不好意思|恭喜|祝|哇|哦)"
    ),
    content=re.compile(
        rf"{_LATIN}|[^\W_A-Za-z0-9的了是在我你您他她它们這这那和与跟就都也很把被给對对从到不吗呢吧啊之及或而且但为以要个]+"
    ),
)
JAPANESE: Final = Language(
    code="ja",
    function_words=frozenset(),
    dropped=frozenset(),
    decision_stems=_stems(
        "決定 決め 決ま 合意 同意 選 結論 承認 却下 確認 キャンセル 取り消 中止 必要 なければ 締め切り 締切 期限 決して"
        " いつも 必ず 代わりに ので 原因 理由 好き 予定 計画 約束 アレルギー 生まれ 結婚 引っ越 買 購入 売 始め"
        " 始ま 入社 署名 変更 変わ 延期 予算 目標 規則 方針 ほしい たい 名前 承諾 解約"
    ),
    number_words=frozenset(),
    filler=re.compile(
        r"\W*(?:こんにちは|こんばんは|おはよう|お元気|さようなら|またね|ありがと|どうも|どういたしまして|いえいえ|もちろん|はい"
        r"|そうです|すごい|素晴らしい|いいですね|よかった|ごめん|すみません|申し訳|おめでと|お疲れ|よろしく|わあ|へえ)"
    ),
    content=re.compile(rf"{_LATIN}|[\u3400-\u9fff々〆ヶ]+|[\u30a1-\u30ff]{{2,}}"),
)

_SPACED: Final = (GERMAN, FRENCH, SPANISH, RUSSIAN)
_MARKERS: Final = {language.code: language.function_words - STOPWORDS for language in _SPACED}
_ANY_MARKER: Final = frozenset().union(*_MARKERS.values())
_ENGLISH_MARKERS: Final = STOPWORDS.difference(*(language.function_words for language in _SPACED))
_MARKERS_MIN: Final = 2
"""One word is no evidence: "die" and "un" are anybody's."""
_KANA: Final = re.compile("[\u3041-\u309f\u30a1-\u30fa]")
_HAN: Final = re.compile("[\u3400-\u4dbf\u4e00-\u9fff]")
_CYRILLIC: Final = re.compile("[\u0400-\u052f]")
_NOT_RUSSIAN: Final = re.compile("[іїєґўјљњћђџ]", re.IGNORECASE)
_SCRIPT_SHARE_MIN: Final = 0.2
"""Of a text's characters: a name in Chinese script makes no English text Chinese."""


def language_of(text: str, words: AbstractSet[str]) -> Language:
    """The language of `text`, by its script or else by most of `words`, its lower-case words; English where none is.

    A word that is both an English and another language's function word speaks for neither.
    """
    if not text.isascii() and (language := _by_script(text)) is not None:
        return language
    ahead_of = max(len(words & _ENGLISH_MARKERS), _MARKERS_MIN - 1)
    if len(words & _ANY_MARKER) <= ahead_of:
        return ENGLISH
    best = max(_SPACED, key=lambda language: len(words & _MARKERS[language.code]))
    return best if len(words & _MARKERS[best.code]) > ahead_of else ENGLISH


def _by_script(text: str) -> Language | None:
    """The language that a script leaves no doubt of, when enough of the text is in it."""
    kana = len(_KANA.findall(text))
    unspaced = kana + len(_HAN.findall(text))
    if unspaced > _SCRIPT_SHARE_MIN * len(text):
        return JAPANESE if kana > _SCRIPT_SHARE_MIN * unspaced else CHINESE
    if _CYRILLIC.search(text) is None or _NOT_RUSSIAN.search(text) is not None:
        return None
    return RUSSIAN if len(_CYRILLIC.findall(text)) > 2 * _SCRIPT_SHARE_MIN * len(text) else None
