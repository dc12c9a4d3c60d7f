"""From a judge's reply to the rating it states, or to the reason why there is none. Never a default, never a guess.

A rating is stated where the word "rating" or "score", with nothing before it that would make it another thing's, is
followed by a colon (or a sign like it) and a number; so are `"rating": 4` of JSON and a reply that is nothing but the
number. Numbers that prose merely mentions ("a score of 5 would need ...") are not ratings, but prose that gives
another number than the stated one makes the reply ambiguous.
"""

import json
import re

from videorm_hf.annotation.types import Choice, FailureReason, Rating, Verdict

_STEPS = {str(step): step for step in range(1, 6)}


def parse_rating(text: str | None, finish_reason: str | None = None) -> Rating | FailureReason:
    """Read the one rating that a reply states.

    Args:
        text (`str`, *optional*): The judge's reply, as text or JSON.
        finish_reason (`str`, *optional*): Why the judge stopped, in the words of the chat-completions protocol.

    Returns:
        [`Rating`] or `FailureReason`: the rating, or the reason why there is none.
    """
    reply = _plain(text or "")
    if reason := _unfinished(reply, finish_reason):
        return reason
    labelled = list(_RATING.finditer(reply))
    stated = {_number(match) for match in labelled if _is_own(reply, match)} - {None}
    mentions = [*labelled, *_MENTION.finditer(reply)]
    mentioned = {_number(match) for match in mentions if not _is_denied(reply, match)} - {None}
    is_bare = _BARE_NUMBER.fullmatch(reply)
    if is_bare and not stated:
        stated = {_number(is_bare)} - {None}
    if not stated and _REFUSAL.search(reply):
        return "refusal"
    if len(stated | mentioned) > 1 or any("-" in number[1:] for number in stated if number):
        return "ambiguous"
    for number in stated:
        if number in _STEPS:
            return Rating(_STEPS[number], "" if is_bare else _rationale(text or "", _RATING))
    return "out_of_range" if (stated | mentioned) - _STEPS.keys() else "no_rating"


def parse_verdict(text: str | None, finish_reason: str | None = None) -> Verdict | FailureReason:
    """Read the one verdict on two videos that a reply states: `Verdict: A`, `B` or `tie`, or `[[A>B]]` and its kind.

    Args:
        text (`str`, *optional*): The judge's reply, as text or JSON.
        finish_reason (`str`, *optional*): Why the judge stopped, in the words of the chat-completions protocol.

    Returns:
        [`Verdict`] or `FailureReason`: the verdict, or the reason why there is none.
    """
    reply = _plain(text or "")
    if reason := _unfinished(reply, finish_reason):
        return reason
    stated = (match["bracketed"] or match["choice"] for match in _VERDICT.finditer(reply))
    choices = {_CHOICES[choice.upper()[:3]] for choice in stated}
    bare = _BARE_VERDICT.fullmatch(reply)
    if bare and not choices:
        choices = {_CHOICES[bare["choice"].upper()]}
    if len(choices) > 1:
        return "ambiguous"
    if not choices:
        return "refusal" if _REFUSAL.search(reply) else "no_rating"
    return Verdict(choices.pop(), "" if bare else _rationale(text or "", _VERDICT))


# --- The reply as a whole ------------------------------------------------------------------------------------------

# Where a chat template opens the thoughts, the reply holds their end alone.
_THOUGHTS = re.compile(r"(?:<think>|\A(?!.*<think>)).*?</think>", re.DOTALL)
_MARKS = re.compile(r'[*_`"“”]')
_REFUSAL = re.compile(
    r"\b(?:i\s+am|i'm)\s+(?:sorry|unable|not\s+able)\b(?=.{0,80}?\b(?:assist|help|provide|rate|rating|evaluat|judge|view|see"
    r"|watch|analy|comply|process|score|assess|request))"
    r"|\bi\s+(?:cannot|can't|can\s+not|won't|will\s+not|must\s+decline|decline)\s+(?:to\s+)?(?:assist|help|provide|rate"
    r"|evaluate|judge|view|see|watch|analy[sz]e|comply|process|score|assess|do\s+that|fulfil)",
    re.IGNORECASE | re.DOTALL,
)


def _plain(text: str) -> str:
    """Return the reply without the judge's thoughts, with spaces for quotes and emphasis."""
    reply = _THOUGHTS.sub(" ", text).replace("’", "'").replace("\\n", "\n")
    return _MARKS.sub(" ", reply).strip()


def _unfinished(reply: str, finish_reason: str | None) -> FailureReason | None:
    """Return why a reply cannot hold a whole answer, if so."""
    if finish_reason == "content_filter":
        return "refusal"
    if finish_reason == "length":
        return "truncated"
    if not reply:
        return "empty"
    body = re.sub(r"^json\b", "", reply).lstrip()
    is_cut_json = body.startswith("{") and "}" not in body
    return "truncated" if is_cut_json or "<think>" in reply else None


# --- Ratings -------------------------------------------------------------------------------------------------------

_NUMBER = r"(?P<number>[+\-−]?[0-9]+(?:[.,][0-9]+)?)(?![.,]?[0-9]|[\w%+])"
# "/5" and "out of 5" name the scale; a second number makes a range.
_AFTER = (
    r"(?:[ \t\])}(]*(?:/|(?:out[ \t]+)?of\b)[ \t]*(?P<scale>[0-9]\w*)"
    r"|[ \t]*(?:[-–—−~,/|]|to\b|or\b|and\b)[ \t]*(?P<upper>[0-9]+)(?![\w.]))?"
)
_RATING = re.compile(
    r"\b(?:rating|score)\b['\])]?[ \t]*(?:\([^()\n]{0,40}\)[ \t]*)?"
    r"(?:(?:[:=：|→]|[=-]>|[ \t][-–—](?=[ \t])|\bis[ \t]*:)(?P<gap>\s*)|[ \t]+(?P<sentence>is)[ \t]+)"
    r"['\[{(]*[ \t]*"
    + _NUMBER
    + _AFTER
    +
    # "Rating: 5 would be too much" rates nothing.
    r"(?![ \t]+(?!(?:stars?|points?|because|for|as|since|based|due|and|but|with|given)\b)(?-i:[a-z]))",
    re.IGNORECASE,
)
_BARE_NUMBER = re.compile(r"[\[{(]*" + _NUMBER + _AFTER + r"[\])}]*\s*[.!]?")
_OWN_WORDS = frozenset(
    "a and answer assigned final following given hence here i is judge my numeric numerical of our overall prompt"
    " quality single so the therefore this thus total video".split()
)
_MENTION = re.compile(
    r"\b(?:ratings?|scores?|rate[sd]?|give[sn]?|gave|giving|assign(?:ed)?|award(?:ed)?|deserves?|earns?|merits?)\b"
    r"(?:[ \t]+(?:it|this|that|video|clip|the|an?|as|at|to|of|be|is|was|with|also|only|just|now|rating|score|overall|"
    r"quality|rated|given))*[ \t]+"
    + _NUMBER
    + _AFTER
    + r"(?=[ \t]*(?:$|[.,;:!)\]\n(]|stars?\b|points?\b|because\b|for\b"
    r"|since\b|as\b|and\b|but\b|due\b|overall\b|on\b|instead\b|rather\b|in\b|given\b|would\b))",
    re.IGNORECASE,
)
_DENIAL = re.compile(
    r"(?:\b(?:not|cannot|never|prevent\w*|than|below|above|short|from|instead|rather|without|unlike)\b|n't\b)"
    r"[^.!?\n]{0,40}$",
    re.IGNORECASE,
)


def _number(match: re.Match[str]) -> str | None:
    """Return the number that was matched, as "4", "8/10" or the range "3-4"; `None` for the scale "1-5" itself."""
    number, scale, upper = match["number"].replace("−", "-").lstrip("+"), match["scale"], match["upper"]
    number = re.sub(r"[.,]0+$", "", number)
    if upper is not None:
        return None if (number, upper) == ("1", "5") else f"{number}-{upper}"
    return number if scale in (None, "5") else f"{number}/{scale}"


def _is_own(reply: str, match: re.Match[str]) -> bool:
    """Tell whether a label is the judge's own ("Final rating"), not an aspect's or the scale's ("Maximum score")."""
    before, rest = reply[: match.start()], reply[match.end() :]
    if not _is_made_of_own_words(_words_before(reply, match.start())):
        return False
    if match["sentence"]:  # "The rating is 4." but not "If it were sharp, the rating is 5 or more"
        is_whole = _is_made_of_own_words(re.split(r"[.!?\n]", before)[-1])
        return is_whole and re.match(r"[ \t]*(?:$|\n|[.!](?:\s|$))", rest) is not None
    # On a line of its own below the label, or it may be the number of a list.
    return "\n" not in (match["gap"] or "") or re.match(r"[ \t\])}]*(?:$|\n)", rest) is not None


def _words_before(reply: str, place: int) -> str:
    return re.split(r"[.,;:!?{}\[\]()|\n]", reply[:place])[-1]


def _is_made_of_own_words(words: str) -> bool:
    return _OWN_WORDS.issuperset(re.findall(r"[^\W\d_]+", words.lower()))


def _is_denied(reply: str, match: re.Match[str]) -> bool:
    return _DENIAL.search(reply[max(0, match.start() - 60) : match.start()]) is not None


# --- Verdicts ------------------------------------------------------------------------------------------------------

_CHOICES: dict[str, Choice] = {
    "A": "first",
    "B": "second",
    "TIE": "tie",
    "A>B": "first",
    "B>A": "second",
    "A=B": "tie",
}
_VERDICT = re.compile(
    r"\[\[(?P<bracketed>A>B|B>A|A=B(?:=\w+)?)\]\]"
    r"|\bverdict\b['\])]?[ \t]*[:=：][ \t]*['\[{(]*[ \t]*(?:(?:video|a)[ \t]+)?(?P<choice>A>B|B>A|A=B|A|B|tie)"
    # "Verdict: A and B are alike" chooses nothing.
    r"(?=[ \t'\])}]*(?:$|[\n.;!(\-–—]|,(?!\s*(?:and\s+)?[AB]\b)))",
    re.IGNORECASE,
)
_BARE_VERDICT = re.compile(r"[\[{(]*(?P<choice>A|B|tie)[\])}]*\s*[.!]?", re.IGNORECASE)


# --- Reasons -------------------------------------------------------------------------------------------------------


def _rationale(text: str, answer: re.Pattern[str]) -> str:
    """Return the reasons: the JSON field, what follows "Rationale:", else the reply without its answer."""
    text = _THOUGHTS.sub(" ", text)
    try:
        fields = json.loads(text[text.index("{") : text.rindex("}") + 1])
        if isinstance(fields, dict) and isinstance(fields.get("rationale"), str):
            return fields["rationale"].strip()
    except (ValueError, RecursionError):
        pass
    plain = _MARKS.sub(" ", text)  # as long as the text, so that places are the same
    if label := re.search(r"\brationale[ ]*[:：]", plain, re.IGNORECASE):
        text, plain = text[label.end() :], plain[label.end() :]
    for match in reversed(list(answer.finditer(plain))):
        words = _words_before(plain, match.start())
        start = match.start() - len(words) * _is_made_of_own_words(words)
        text = text[:start] + text[match.end() :]
    return text.strip(" \t\r\n*_`\"'{}[]|#").lstrip(".,:;-)*_` \n")
