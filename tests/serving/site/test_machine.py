"""The restart state machine: what must hold for every sequence of observations."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from serving.site.machine import Action, Condition, Observation, Policy, State, start, step

observations = st.one_of(
    st.builds(Observation, exit=st.just("exit status 1")),
    st.builds(Observation, ready=st.just(True)),
    st.builds(Observation, ready=st.just(False), alive=st.booleans(), reason=st.just("503")),
    st.just(Observation(alive=False, stands_still=True, reason="ReadTimeout")),
)
policies = st.builds(
    Policy,
    start_limit_s=st.floats(1, 300),
    unready_limit_s=st.floats(1, 300),
    attempts=st.integers(1, 5),
    failures=st.integers(1, 8),
    window_s=st.floats(10, 1000),
)
histories = st.lists(st.tuples(st.floats(0.1, 100), observations), max_size=60)


def _play(policy, history):
    """Conditions and actions, as a supervisor would drive it."""
    now = 0.0
    condition = start(Condition(), now)
    for pause, seen in history:
        now += pause
        before = condition
        condition, action = step(condition, policy, seen, now)
        yield before, seen, now, condition, action


@given(policies, histories)
def test_start_only_after_the_pause_and_never_from_failed(policy, history):
    for before, _, now, after, action in _play(policy, history):
        if action is Action.START:
            assert before.state is State.RESTARTING
            assert now >= before.retry_at
            assert after.state is State.STARTING
            assert after.restarts == before.restarts + 1
        if before.state is State.FAILED:
            assert after is before


@given(policies, histories)
def test_the_pause_is_bounded(policy, history):
    for before, _, now, after, _ in _play(policy, history):
        if after.state is State.RESTARTING and before.state is not State.RESTARTING:
            assert policy.pause_s <= after.retry_at - now + 1e-6
            assert after.retry_at - now <= policy.pause_max_s + 1e-6


@given(policies, histories)
def test_an_end_is_asked_only_of_what_lives_unready_past_its_limit(policy, history):
    for before, seen, now, _, action in _play(policy, history):
        if action is Action.END:
            assert seen.exit is None
            assert not seen.ready
            assert not seen.alive
            assert now - before.since >= min(policy.start_limit_s, policy.unready_limit_s)


@given(policies, histories)
def test_only_what_was_ready_and_stands_still_is_killed_before_its_limit(policy, history):
    for before, seen, _, _, action in _play(policy, history):
        if action is Action.KILL:
            assert seen.stands_still
            assert before.state is State.UNREADY


@given(policies, histories)
def test_the_number_of_failures_before_giving_up_is_bounded(policy, history):
    for _, _, _, after, _ in _play(policy, history):
        assert len(after.failed_at) <= policy.failures
        assert after.unready_starts <= policy.attempts
        if after.state is State.FAILED:
            assert len(after.failed_at) == policy.failures or after.unready_starts == policy.attempts
            assert after.error


def _drive(condition, policy, now, *seen):
    for observation in seen:
        now = max(now + 0.1, condition.retry_at if condition.state is State.RESTARTING else 0)
        condition, _ = step(condition, policy, observation, now)
    return condition, now


READY, GONE, UNREADY = Observation(ready=True), Observation(exit="exit status 1"), Observation(reason="503")


def test_what_never_becomes_ready_is_given_up_after_its_attempts():
    policy = Policy(attempts=3)
    condition, _ = _drive(start(Condition(), 0), policy, 0, GONE, GONE, GONE, GONE, GONE)
    assert condition.state is State.FAILED
    assert condition.error == "exit status 1 (3 starts, never ready)"
    assert condition.restarts == 2


def test_being_ready_once_forgives_starts_but_not_the_window():
    policy = Policy(attempts=2, failures=5)
    condition, now = start(Condition(), 0), 0.0
    for _ in range(4):
        condition, now = _drive(condition, policy, now, READY, GONE, UNREADY)
        assert condition.state is State.STARTING
    condition, now = _drive(condition, policy, now, READY, GONE)
    assert condition.state is State.FAILED
    assert "5 failures within 600 s" in condition.error


def test_old_failures_leave_the_window():
    policy = Policy(failures=2, window_s=100)
    condition, now = _drive(start(Condition(), 0), policy, 0, READY, GONE, UNREADY, READY)
    condition, now = _drive(condition, policy, now + 100, GONE)
    assert condition.state is State.RESTARTING
    assert len(condition.failed_at) == 1


def test_an_unready_part_that_still_answers_is_left_alone():
    policy = Policy(unready_limit_s=10)
    condition, now = _drive(start(Condition(), 0), policy, 0, READY, UNREADY)
    assert condition.state is State.UNREADY
    assert condition.error == "503"
    condition, action = step(condition, policy, UNREADY, now + 1000)
    assert (condition.state, action) == (State.UNREADY, None)
    condition, action = step(condition, policy, replace(UNREADY, alive=False), now + 1000)
    assert (condition.state, action) == (State.RESTARTING, Action.END)


def test_a_slow_start_is_told_but_not_ended_while_it_answers():
    policy = Policy(start_limit_s=10)
    condition, action = step(start(Condition(), 0), policy, UNREADY, 11)
    assert (condition.state, action) == (State.UNREADY, None)
    assert condition.error == "not ready within 10 s: 503"
    condition, _ = step(start(Condition(), 0), policy, replace(UNREADY, alive=False), 11)
    assert condition.state is State.RESTARTING


def test_a_person_can_revive_what_was_given_up():
    policy = Policy(attempts=1)
    condition, now = _drive(start(Condition(), 0), policy, 0, GONE)
    assert condition.state is State.FAILED
    revived = start(condition, now)
    assert revived.state is State.STARTING
    assert revived.failed_at == ()
