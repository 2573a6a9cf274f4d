"""The schema against bytes that OpenTelemetry's own generated modules wrote (opentelemetry-proto
1.45) of the spans of `test_as_protobuf`."""

from kvproxy.adapters.tracing.as_protobuf import ProtobufBatch
from kvproxy.adapters.tracing.outbox import Told
from kvproxy.adapters.tracing.schema import ExportTraceServiceRequest
from tests.unit.kvproxy.adapters.tracing.test_as_protobuf import BARE, EPOCH_NS, SPEAKER, WHOLE

WRITTEN = bytes.fromhex(
    "0ae9020a2b0a160a0c736572766963652e6e616d6512060a04656467650a110a0b70726f636573732e7069641202"
    "180712b9020a0e0a076b7670726f78791203312e3212d1010a100af7651916cd43dd8448eb211c80319c1208b7ad"
    "6b71692033311a03763d31220800f067aa0ba902b72a07504f5354202f78300239002fcc00b4b6e00d418046802d"
    "b4b6e00d4a0a0a016112050a0362c3a44a100a016e120b18ffffffffffffffffff014a0e0a016612092100000000"
    "0000e03f4a070a0174120210014a1e0a0a6572726f722e7479706512100a0e757073747265616d5f62726f6b655a"
    "16090094991eb4b6e00d120b66697273745f746f6b656e7a12120e757073747265616d5f62726f6b651802850101"
    "03000012530a100af7651916cd43dd8448eb211c80319c120811111111111111112a066163636570743001390094"
    "991eb4b6e00d410094991eb4b6e00d4a130a0a6572726f722e7479706512050a03343030850101010000"
)


def test_the_same_bytes_are_written() -> None:
    batch = ProtobufBatch(SPEAKER)
    batch.add(Told([WHOLE, BARE], EPOCH_NS))
    assert batch.body() == WRITTEN


def test_nothing_that_was_written_is_unknown() -> None:
    read = ExportTraceServiceRequest.FromString(WRITTEN)
    read.DiscardUnknownFields()
    assert read.SerializeToString() == WRITTEN
