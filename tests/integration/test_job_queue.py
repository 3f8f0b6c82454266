"""Jobs as RQ itself would have made them, and the thread that sends them behind the answers."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator

import pytest
import redis
from rq import Queue
from rq.job import Job
from rq.serializers import JSONSerializer

from portal.queue.dispatcher import Dispatcher
from portal.queue.jobs import FULFILLMENTS, JOB, JobQueue

ORDERS = [f"801{number:012d}AAA" for number in range(1, 6)]


def test_a_job_is_what_rq_would_have_made(store: redis.Redis) -> None:
    ours = JobQueue(store).send(ORDERS[0])
    queue = Queue(FULFILLMENTS, connection=store, serializer=JSONSerializer)
    theirs = queue.enqueue_call(
        JOB, args=(ORDERS[0],), result_ttl=0, failure_ttl=3600, timeout=-1, description="fulfill an order"
    )
    kept = [store.hgetall(Job.key_for(each)) for each in (ours, theirs.id)]
    for fields in kept:
        assert fields.pop(b"created_at").endswith(b"Z")
        assert fields.pop(b"enqueued_at").endswith(b"Z")
    assert kept[0] == kept[1]
    assert queue.job_ids == [ours, theirs.id]
    assert Queue.all(connection=store, serializer=JSONSerializer) == [queue]
    job = Job.fetch(ours, connection=store, serializer=JSONSerializer)
    assert (job.func_name, job.args, job.kwargs) == (JOB, [ORDERS[0]], {})
    assert store.ttl(Job.key_for(ours)) == -1


def test_many_jobs_keep_their_order_and_those_in_front_come_first(store: redis.Redis) -> None:
    jobs = JobQueue(store)
    sent = jobs.send_many(ORDERS[:3])
    front = jobs.send(ORDERS[3], front=True)
    assert jobs.queued() == [front, *sent]
    assert [each.split("-")[0] for each in sent] == ORDERS[:3]
    assert jobs.count() == 4


class Recorder:
    """A queue whose first round trip lasts until it is let go."""

    def __init__(self) -> None:
        self.sent: list[list[str]] = []
        self.begun, self.go_on = threading.Event(), threading.Event()
        self.error: Exception | None = None

    def send_many(self, sf_order_ids: list[str]) -> None:
        self.sent.append(list(sf_order_ids))
        self.begun.set()
        assert self.go_on.wait(60)
        if self.error is not None:
            raise self.error


@pytest.fixture
def jobs() -> Recorder:
    return Recorder()


@pytest.fixture
def dispatcher(jobs: Recorder) -> Iterator[Dispatcher]:
    made = Dispatcher(jobs)
    yield made
    jobs.go_on.set()
    made.close()


def test_what_comes_while_jobs_are_sent_goes_together(jobs: Recorder, dispatcher: Dispatcher) -> None:
    dispatcher.send_soon([ORDERS[0]])
    assert jobs.begun.wait(60)  # at once, when there is nothing to wait for
    for each in ORDERS[1:]:
        dispatcher.send_soon([each])
    jobs.go_on.set()
    wait_for(lambda: len(jobs.sent) == 2)
    assert jobs.sent == [ORDERS[:1], ORDERS[1:]]


def test_a_queue_that_is_away_ends_nothing(
    jobs: Recorder, dispatcher: Dispatcher, caplog: pytest.LogCaptureFixture
) -> None:
    jobs.error = redis.ConnectionError("gone")
    jobs.go_on.set()
    dispatcher.send_soon([ORDERS[0]])
    wait_for(lambda: "No jobs sent: the sweep will" in caplog.text)
    jobs.error = None
    dispatcher.send_soon([ORDERS[1]])
    wait_for(lambda: len(jobs.sent) == 2)
    assert jobs.sent[1] == [ORDERS[1]]


def test_no_round_trip_has_more_than_redis_is_done_with_soon(jobs: Recorder, dispatcher: Dispatcher) -> None:
    """Whole batches come (portal.web.batch), and a script is all that Redis does meanwhile."""
    dispatcher.send_soon(ORDERS)
    assert jobs.begun.wait(60)
    for _ in range(50):
        assert dispatcher.send_soon([ORDERS[0]] * 64) == [None] * 64
    jobs.go_on.set()
    dispatcher.close()
    assert sum(map(len, jobs.sent)) == len(ORDERS) + 50 * 64
    assert [len(each) for each in jobs.sent[1:]] == [128] * 25


def test_what_is_left_is_sent_at_the_end(jobs: Recorder, dispatcher: Dispatcher) -> None:
    dispatcher.send_soon([ORDERS[0]])
    assert jobs.begun.wait(60)
    for each in ORDERS[1:]:
        dispatcher.send_soon([each])
    jobs.go_on.set()
    dispatcher.close()
    assert [each for batch in jobs.sent for each in batch] == ORDERS


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_process_sends_by_a_thread_of_its_own(store: redis.Redis) -> None:
    queue = JobQueue(store)
    dispatcher = Dispatcher(queue)
    dispatcher.send_soon([ORDERS[0]])
    wait_for(lambda: queue.count() == 1)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            store.connection_pool.reset()
            dispatcher.send_soon([ORDERS[1]])
            dispatcher.close()
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    dispatcher.close()
    assert [each.split("-")[0] for each in queue.queued()] == ORDERS[:2]


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)
