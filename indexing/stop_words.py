"""Stop words of some languages, and the language that those of a text tell."""

from collections.abc import Iterable

_LISTS = {
    "english": "a an and are as at be but by can do does for from has have how i if in into is it its "
    "my no not of on or such t that the their then there these they this to was we were "
    "what when where which who why will with you your",
    "german": "aber als am auch auf aus bei bis da damit dann das dass dem den der des die diese "
    "dieser dieses durch ein eine einem einen einer eines er es für habe haben hat ich ihr "
    "im in ist kann können man mein mit muss müssen nach nicht noch nur oder sein sich sie "
    "sind so um und uns unter vom von vor war warum was welche wenn werden wie wir wird wo "
    "zu zum zur über",
    "french": "au aux avec ce ces cette comme comment dans de des du elle en est et il ils je la le "
    "les leur mais mon ne nous on ou où par pas peut plus pour pourquoi qu quand que quel "
    "quelle qui quoi sa sans se ses si son sont sur un une votre vous être",
    "spanish": "al como con cuando cuál cómo de del desde donde dónde el ella en entre es esta este "
    "esto está están hay la las lo los mi muy más no para pero por puede puedo que qué se "
    "ser si sin sobre son su sus también un una uno",
    "italian": "al alla anche che chi come con cosa da dal dalla degli dei del della delle di dove gli "
    "ha hanno il in la le lo ma mi nel nella non perché più può quale quando questa questo "
    "se si sono su sul sulla tra un una uno",
    "portuguese": "ao aos as como da das de do dos ela ele em entre essa esse esta este está eu foi isso "
    "mais mas meu na nas no nos não ou para pela pelo pode por porque posso qual quando que "
    "se sem ser seu sua são também tem um uma você",
    "dutch": "aan al als bij dan dat de deze die dit door een en er geen heb hebben heeft het hij "
    "hoe ik in is je kan kunnen maar meer met mijn moet moeten naar niet nog of om ook op "
    "te tot uit van voor waar waarom wanneer wat welke wie wij worden wordt ze zich zijn "
    "zonder",
    "russian": "а без бы в во вы где для до его если есть за и из или их к как какие какой когда ли "
    "мне можно мой на не но о об он она они от по почему при с со так то у чего чем что "
    "чтобы эта эти это этот я",
    "hindi": "इस उस और का कि की के को कैसे कौन क्या क्यों जो तक तो था थे नहीं पर भी मेरा मेरे मैं "
    "में यदि यह ये या वह वे से हम ही हूँ है हैं हो होता",
}
STOP_WORDS = {language: frozenset(words.split()) for language, words in _LISTS.items()}
"""By language, in lower case."""

_ALL = frozenset().union(*STOP_WORDS.values())
_ENGLISH = STOP_WORDS["english"]
_TELLING = {language: words - _ENGLISH for language, words in STOP_WORDS.items() if words != _ENGLISH}


def language_of(words: Iterable[str], *, least: int) -> str:
    """The language that has most of its stop words among ``words``, which are in lower case.

    English, unless another language has ``least`` different ones that English has not, and over twice as many
    as English has that the other has not.

    >>> language_of("wie groß ist der Mond".split(), least=2), language_of(["die", "hard"], least=2)
    ('german', 'english')
    """
    told = _ALL.intersection(words)
    counts = {language: len(told & stop_words) for language, stop_words in _TELLING.items()}
    best = max(counts, key=counts.__getitem__)
    english = len(told & _ENGLISH - STOP_WORDS[best])
    return best if counts[best] >= max(least, 2 * english + 1) else "english"
