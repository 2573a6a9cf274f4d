"""The part of OpenTelemetry's protobuf schema that traces are exported with.

Source: opentelemetry-proto 1.x (common, resource, trace and collector/trace, all v1), whose numbers
never change. Its generated modules are not used: packages for Envoy's protocols bring old ones
under the same names, and which of them is imported depends on the order of installation. Messages
live in a pool of their own, so neither gets in the way of the other.
"""

from typing import Any

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
)
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

_PACKAGE = "kvproxy.otlp"
# By message: name, number and type of each field; `*` repeats, `|` is one of the message's choice.
_MESSAGES = {
    "AnyValue": "|string_value 1 string, |bool_value 2 bool, |int_value 3 int64, "
    "|double_value 4 double",
    "KeyValue": "key 1 string, value 2 AnyValue",
    "InstrumentationScope": "name 1 string, version 2 string",
    "Resource": "attributes 1 *KeyValue",
    "Event": "time_unix_nano 1 fixed64, name 2 string, attributes 3 *KeyValue",
    "Status": "message 2 string, code 3 StatusCode",
    "Span": "trace_id 1 bytes, span_id 2 bytes, trace_state 3 string, parent_span_id 4 bytes, "
    "name 5 string, kind 6 SpanKind, start_time_unix_nano 7 fixed64, "
    "end_time_unix_nano 8 fixed64, attributes 9 *KeyValue, events 11 *Event, status 15 Status, "
    "flags 16 fixed32",
    "ScopeSpans": "scope 1 InstrumentationScope, spans 2 *Span",
    "ResourceSpans": "resource 1 Resource, scope_spans 2 *ScopeSpans",
    "ExportTraceServiceRequest": "resource_spans 1 *ResourceSpans",
    "ExportTracePartialSuccess": "rejected_spans 1 int64, error_message 2 string",
    "ExportTraceServiceResponse": "partial_success 1 ExportTracePartialSuccess",
}
_ENUMS = {
    "SpanKind": ("SPAN_KIND_UNSPECIFIED", "SPAN_KIND_INTERNAL", "SPAN_KIND_SERVER",
                 "SPAN_KIND_CLIENT"),
    "StatusCode": ("STATUS_CODE_UNSET", "STATUS_CODE_OK", "STATUS_CODE_ERROR"),
}  # fmt: skip


def _file() -> FileDescriptorProto:
    file = FileDescriptorProto(name="kvproxy/otlp.proto", package=_PACKAGE, syntax="proto3")
    for name, values in _ENUMS.items():
        enum = file.enum_type.add(name=name)
        for number, value in enumerate(values):
            enum.value.add(name=value, number=number)
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field in fields.split(", "):
            _add(message, *field.split())
    return file


def _add(message: DescriptorProto, name: str, number: str, kind: str) -> None:
    field = message.field.add(name=name.lstrip("|"), number=int(number))
    repeated = kind.startswith("*")
    field.label = field.LABEL_REPEATED if repeated else field.LABEL_OPTIONAL
    kind = kind.lstrip("*")
    if kind in _MESSAGES:
        field.type, field.type_name = field.TYPE_MESSAGE, f".{_PACKAGE}.{kind}"
    elif kind in _ENUMS:
        field.type, field.type_name = field.TYPE_ENUM, f".{_PACKAGE}.{kind}"
    else:
        field.type = FieldDescriptorProto.Type.Value(f"TYPE_{kind.upper()}")
    if name.startswith("|"):
        if not message.oneof_decl:
            message.oneof_decl.add(name="value")
        field.oneof_index = 0


_POOL = DescriptorPool()
_POOL.AddSerializedFile(_file().SerializeToString())


def _message(name: str) -> Any:
    return GetMessageClass(_POOL.FindMessageTypeByName(f"{_PACKAGE}.{name}"))


ExportTraceServiceRequest = _message("ExportTraceServiceRequest")
ExportTraceServiceResponse = _message("ExportTraceServiceResponse")
SPAN_KIND_INTERNAL, SPAN_KIND_SERVER, SPAN_KIND_CLIENT = 1, 2, 3
STATUS_CODE_ERROR = 2
