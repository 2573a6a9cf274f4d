import asyncio

import pytest

from loadgen.dialects import DIALECTS
from loadgen.plan import ContentSettings
from loadgen.resume import Past
from loadgen.run_values import RunSettings
from loadgen.schedule import Share
from loadgen.session import Asking
from loadgen.workers.messages import REPORTS, Job, Report, message, read_frame
from tests.support.samples import sample
from tests.support.traces import growing


async def test_messages_arrive_whole_whatever_the_pieces() -> None:
    reader = asyncio.StreamReader()
    told = Report(1.5, sent=[sample(chunks=list(range(50_000)))], ready=True)
    data = message(told) * 2
    for start in range(0, len(data), 10_007):
        reader.feed_data(data[start : start + 10_007])
    reader.feed_eof()
    assert REPORTS.decode(await read_frame(reader)) == told
    assert REPORTS.decode(await read_frame(reader)) == told
    with pytest.raises(asyncio.IncompleteReadError):
        await read_frame(reader)


def test_a_job_is_the_same_on_the_other_side() -> None:
    asking = Asking("m", {"Authorization": "Bearer k"}, dialect=DIALECTS["messages"])
    past = Past.of([sample()])
    traces = [growing("a", [64, 128])]
    job = Job(RunSettings("http://a"), traces, asking, ContentSettings(), Share(1, 3), past, 7, 1.0)
    found = Job.unpack(job.pack())
    assert found.traces == traces
    assert (found.settings, found.share, found.requests) == (job.settings, job.share, 7)
    assert found.past.done == past.done
    assert type(found.asking.dialect) is type(asking.dialect)
    assert found.asking.headers == asking.headers
