"""The line of a log that says why a job ended."""

from dataclasses import replace
from pathlib import Path

from e3mega.plan.planfile import Role
from e3mega.run.causes import context_lines, exit_words, log_cause
from e3mega.run.verdict import JobState, Verdict, judge

TORCHRUN = """\
=== attempt 0: torchrun
E1124 14:00:00.1 77 torch/distributed/elastic/multiprocessing/api.py:1020] failed
Traceback (most recent call last):
  File "x.py", line 1, in <module>
torch.distributed.elastic.multiprocessing.errors.ChildFailedError:
============================================================
e3mega.learner.worker FAILED
------------------------------------------------------------
Failures:
[1]:
  rank      : 0 (local_rank: 0)
  exitcode  : -15 (pid: 4241)
  traceback : Signal 15 (SIGTERM) received by PID 4241
------------------------------------------------------------
Root Cause (first observed failure):
[0]:
  time      : 2026-11-24_14:00:00
  host      : here
  rank      : 1 (local_rank: 1)
  exitcode  : {code} (pid: 4242)
  error_file: <N/A>
  traceback : Signal 9 (SIGKILL) received by PID 4242
============================================================
"""


def written(folder: Path, text: str) -> Path:
    log = folder / "job.log"
    log.write_text(text)
    return log


def test_a_killed_rank_is_named(tmp_path: Path) -> None:
    log = written(tmp_path, TORCHRUN.format(code=-9))
    assert log_cause(log, 0) == "rank 1 was killed by SIGKILL"


def test_a_ranks_exception_is_told_before_torchruns_own(tmp_path: Path) -> None:
    error = "[rank1]: RuntimeError: loss is not finite at step 3\n"
    log = written(tmp_path, error + TORCHRUN.format(code=1))
    cause = log_cause(log, 0)
    assert cause == "RuntimeError: loss is not finite at step 3 (rank 1 exited with status 1)"


def test_an_exception_in_vllms_log_lines_is_found(tmp_path: Path) -> None:
    place = "(MainProcess pid=7) ERROR 11-24 14:55:49 [async_llm.py:906]"
    error = "vllm.v1.engine.exceptions.EngineDeadError: EngineCore encountered an issue."
    text = f"{place} Traceback (most recent call last):\n{place} {error}\nINFO:  Shutting down\n"
    assert log_cause(written(tmp_path, text), 0) == error


def test_what_vllm_only_warned_of_is_no_cause(tmp_path: Path) -> None:
    place = "(MainProcess pid=7) WARNING 11-25 07:52:55 [base.py:380]"
    warned = "ValueError: Tokenizer not available when `skip_tokenizer_init=True`"
    text = f"=== attempt 0\n{place} Traceback (most recent call last):\n{place} {warned}\n"
    told = f"(Worker pid=9) ERROR 11-25 08:00:00 [core.py:12] {warned}\n"
    assert "Tokenizer" not in log_cause(written(tmp_path, text + "INFO:  serves\n"), 0)
    assert log_cause(written(tmp_path, text + told), 0) == warned


def test_a_stated_reason_is_told_before_anything_else(tmp_path: Path) -> None:
    text = 'ValueError: earlier\n{"reason": "tensor lm_head differs"}\nshutting down\n'
    assert log_cause(written(tmp_path, text), 0) == "tensor lm_head differs"


def test_a_former_attempt_says_nothing_of_this_one(tmp_path: Path) -> None:
    former = "ValueError: of the former attempt\n"
    log = written(tmp_path, former + "=== attempt 1\n")
    assert log_cause(log, len(former)) == ""
    assert context_lines(log, len(former)) == ["=== attempt 1"]


def test_exit_statuses_read_as_words() -> None:
    assert exit_words(3) == "exited with status 3"
    assert exit_words(-9) == "was killed by SIGKILL"


def states(generation: int | None, learner: int | None, loop: int | None, ended_s: float = 0.0):
    return [
        JobState("generation_0", Role.GENERATION, generation, ended_s),
        JobState("learner", Role.LEARNER, learner, ended_s),
        JobState("loop", Role.LOOP, loop, ended_s),
    ]


def test_a_run_goes_on_until_the_loop_and_the_learner_have_left() -> None:
    assert judge(states(None, None, None)) == (Verdict.GOES_ON, ())
    assert judge(states(None, 0, None)) == (Verdict.GOES_ON, ())
    assert judge(states(None, None, 0)) == (Verdict.GOES_ON, ())
    assert judge(states(None, 0, 0)) == (Verdict.DONE, ())
    assert judge(states(1, 0, 0)) == (Verdict.DONE, ())


def test_a_job_that_outstays_the_other_by_too_much_fails_the_run() -> None:
    assert judge(states(None, 0, None, ended_s=31.0)) == (Verdict.FAILED, ("learner",))
    assert judge(states(None, None, 0, ended_s=31.0)) == (Verdict.FAILED, ("loop",))


def test_one_of_two_servers_may_leave_before_the_loop() -> None:
    second = JobState("generation_1", Role.GENERATION, None, 0.0)
    assert judge([second, *states(-9, None, None)]) == (Verdict.GOES_ON, ())
    both = judge([replace(second, status=-9), *states(-9, None, None)])
    assert both == (Verdict.FAILED, ("generation_1", "generation_0"))


def test_a_loop_that_left_at_a_checkpoint_is_no_failure() -> None:
    assert judge(states(None, None, 75)) == (Verdict.GOES_ON, ())
    assert judge(states(None, 0, 75)) == (Verdict.LEFT, ())


def test_a_server_may_not_leave_before_the_loop() -> None:
    assert judge(states(0, None, None)) == (Verdict.FAILED, ("generation_0",))
    assert judge(states(0, None, 1))[1] == ("generation_0", "loop")
    assert judge(states(1, -9, 1))[1] == ("learner", "generation_0", "loop")
