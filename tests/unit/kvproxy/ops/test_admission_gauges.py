from kvproxy.core.admission import Admission, AdmissionLimits
from kvproxy.core.allowance import AllowanceLimits
from kvproxy.core.line import Ticket
from kvproxy.core.types import Identity
from kvproxy.ops.admission_gauges import AdmissionGauges
from tests.support.makers import make_chain, make_router


def test_queue_and_memory_are_shown() -> None:
    router = make_router(1)
    admission = Admission(router, AdmissionLimits(AllowanceLimits()))
    admission.enter(Ticket(Identity("", "m", "s"), make_chain("x" * 400), 1.0), 1.0)
    samples = {
        (sample.name, *sample.labels.values()): sample.value
        for metric in AdmissionGauges(router, admission, lambda: 4.0).collect()
        for sample in metric.samples
    }
    assert samples["kvproxy_replica_queue_length", "r0"] == 1
    assert samples["kvproxy_queue_oldest_seconds",] == 3.0
    assert samples["kvproxy_working_set_tokens", "60m"] == 0
    assert samples["kvproxy_hbm_usable_tokens",] == 100_000
    assert samples["kvproxy_regime", "hbm_enough"] == 1
    assert samples["kvproxy_regime", "dram_pays"] == 0
