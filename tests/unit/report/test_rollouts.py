"""Which rollouts are shown, and how a completion is cut into judged attempts."""

from collections import Counter

from e3mega.report.cards import Outcome, Verdict
from e3mega.report.rollouts import Found, choose, outcome_of, pieces_of
from e3mega.rollout.records import Completion, FinishReason, GroupRequest, Purpose, Rollout
from e3mega.tasks.countdown.options import CountdownOptions
from e3mega.tasks.countdown.task import CountdownTask
from e3mega.tasks.interface import Prompt

TASK = CountdownTask(CountdownOptions(kind="countdown"), 1)


def _ids(words: str) -> tuple[int, ...]:
    known = {TASK.text((number,)): number for number in range(130)}
    return tuple(known[word] for word in words.split())


def _rollout(words: str, *, is_cut: bool = False) -> tuple[GroupRequest, Rollout]:
    prompt = Prompt("3 5 7 : 22", _ids("numbers 3 5 7 target 22 think"), "easy")
    token_ids = _ids(words)
    reason = FinishReason.LENGTH if is_cut else FinishReason.STOP
    completion = Completion(token_ids, (0.0,) * len(token_ids), reason, ())
    request = GroupRequest(0, prompt, 1, 64, 1.0, 1.0, 0, 1, 0)
    return request, Rollout(completion, TASK.mark(prompt, token_ids))


def test_each_attempt_has_its_own_verdict() -> None:
    words = (
        "3 + 5 = 8 - 7 = 1 no 3 + 7 = 10 + 5 = 15 ok 3 * 5 = 15 + 7 = 22 no "
        "3 * 5 = 15 + 7 = 22 ok <answer> ( 3 * 5 ) + 7 </answer> <end>"
    )
    pieces = pieces_of(*_rollout(words), TASK)
    assert [piece.verdict for piece in pieces] == [
        Verdict.NO,
        Verdict.FALSE,
        Verdict.MISSED,
        Verdict.YES,
        Verdict.ANSWER,
    ]
    assert " ".join(piece.words for piece in pieces) == words


def test_what_follows_the_attempts_of_a_failure_is_no_answer() -> None:
    pieces = pieces_of(*_rollout("3 + 5 = 8 - 7 = 1 no none <end>"), TASK)
    assert [(piece.is_attempt, piece.verdict) for piece in pieces] == [
        (True, Verdict.NO),
        (False, Verdict.NONE),
    ]


def test_an_empty_completion_has_no_pieces() -> None:
    assert pieces_of(*_rollout("", is_cut=True), TASK) == ()


def test_outcomes_tell_giving_up_from_being_cut() -> None:
    right = _rollout("3 * 5 = 15 + 7 = 22 ok <answer> ( 3 * 5 ) + 7 </answer> <end>")[1]
    assert outcome_of(right) is Outcome.CORRECT
    assert outcome_of(_rollout("none <end>")[1]) is Outcome.INCORRECT
    assert outcome_of(_rollout("3 + 5 =", is_cut=True)[1]) is Outcome.TRUNCATED


def test_rare_kinds_are_shown_beside_common_ones() -> None:
    common = _rollout("none <end>")
    rare = _rollout("3 + 5 =", is_cut=True)
    found = [Found(Purpose.TRAIN, "easy", 1, *common)] * 100
    found += [Found(Purpose.TRAIN, "easy", 1, *rare)] * 2
    found += [Found(Purpose.EVALUATE, "hard", 1, *common)] * 3
    counts = Counter((each.stage, outcome_of(each.rollout)) for each in choose(found, 20))
    assert counts == {
        ("easy", Outcome.INCORRECT): 15,
        ("easy", Outcome.TRUNCATED): 2,
        ("hard", Outcome.INCORRECT): 3,
    }


def test_fewer_rollouts_than_asked_for_are_all_shown() -> None:
    found = [Found(Purpose.TRAIN, "easy", 1, *_rollout("none <end>"))] * 3
    assert len(choose(found, 20)) == 3
    assert choose([], 20) == []
