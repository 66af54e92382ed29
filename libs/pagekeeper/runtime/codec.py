"""Translation between the log's bytes and the domain's values.

A message and a value class of the same name have the same fields. The translation is derived from the two once, at
import, and a field that only one of the two has stops the program at import. Bytes are deterministic: equal states
have equal bytes on every replica.
"""

import zlib
from collections.abc import Callable, Collection, Sequence
from dataclasses import MISSING, fields
from enum import Enum
from hashlib import sha256
from operator import attrgetter
from types import NoneType, UnionType
from typing import Any, Final, Generic, TypeVar, cast, get_args, get_origin, get_type_hints

from google.protobuf.descriptor import EnumDescriptor, FieldDescriptor
from google.protobuf.message import Message

from pagekeeper.core import effects as fx
from pagekeeper.core import events as ev
from pagekeeper.core.bookkeeping import Checkpoint, Counters, EvictionMark, Operation, SessionState
from pagekeeper.core.changes import Changes
from pagekeeper.core.errors import ReleaseTooOld
from pagekeeper.core.fold_rules import FOLD_VERSION, UNNAMED_FOLD_VERSION, fold_rules
from pagekeeper.core.pages import FaultReason, KeyValue, PageState, Version
from pagekeeper.core.policies import logged_policy
from pagekeeper.core.reuse_counts import SessionReuse
from pagekeeper.core.session import Session
from pagekeeper.core.usage import ProviderUsage
from pagekeeper.core.working_set import Resident, WorkingSet
from pagekeeper.v1 import event_pb2, page_pb2, session_pb2

HAPPENINGS_MAX: Final = 1_000
"""Of one answer: a page may push out as many others as a large prompt has, and the answer is to be had."""

V = TypeVar("V")
E = TypeVar("E", bound=Enum)
Value = Any
"""A domain value, of the class that its codec was derived from."""
Encode = Callable[[Value], Any]
Decode = Callable[[Any], Value]

NAMED_OTHERWISE: Final[dict[type, str]] = {
    PageState: "PageSnapshot",
    Version: "VersionSnapshot",
    Resident: "ResidentSnapshot",
    EvictionMark: "EvictionSnapshot",
    Operation: "OperationSnapshot",
}
"""Classes whose message is called something else; all others share the name."""
FIELDS_NAMED_OTHERWISE: Final = {"periodicity": "rhythm", "recall_likelihood_percent": "telling_percent"}
"""Fields that the wire calls something else, since names that stand in JSON do not change."""


def _message_class(value_class: type) -> type[Message]:
    return _class_of_message(NAMED_OTHERWISE.get(value_class, value_class.__name__))


def _class_of_message(name: str) -> type[Message]:
    for module in (event_pb2, page_pb2, session_pb2):
        if hasattr(module, name):
            return cast(type[Message], getattr(module, name))
    raise TypeError(f"no message {name}")


class MessageReader(Generic[V]):
    """Reads one value class from messages that have at least its fields, such as the facts of a line from a `Page`."""

    def __init__(self, value_class: type[V], message_class: type[Message]) -> None:
        descriptor = message_class.DESCRIPTOR
        hints = get_type_hints(value_class)
        defaults = _defaults_of(value_class)
        wire_names = {name: FIELDS_NAMED_OTHERWISE.get(name, name) for name in defaults}
        if missing := set(wire_names.values()) - set(descriptor.fields_by_name):
            raise TypeError(f"{descriptor.name} has no {missing} of {value_class.__name__}")
        self._value_class = value_class
        self._fields = [
            _FieldCodec(cast(FieldDescriptor, descriptor.fields_by_name[wire_names[name]]), name, hints[name], default)
            for name, default in defaults.items()
        ]
        self._decoders = [field.decoder() for field in self._fields]

    def decode(self, message: Message) -> V:
        return self._value_class(*[decode(message) for decode in self._decoders])


class MessageWriter(Generic[V]):
    """Writes what one value class and a message both have, such as the facts of a page into the API's `Page`.

    `apart` names what the two have alike and mean otherwise.
    """

    def __init__(self, value_class: type[V], message_class: type[Message], apart: Collection[str] = ()) -> None:
        fields_by_name = message_class.DESCRIPTOR.fields_by_name
        hints = get_type_hints(value_class)
        codecs = [
            _FieldCodec(cast(FieldDescriptor, fields_by_name[wire_name]), name, hints[name], default)
            for name, default in _defaults_of(value_class).items()
            if (wire_name := FIELDS_NAMED_OTHERWISE.get(name, name)) in fields_by_name and name not in apart
        ]
        self._encoders = [(field.attribute, field.name, field.encoder()) for field in codecs]

    def written(self, value: V) -> dict[str, Any]:
        """Arguments of the message's constructor. What is a default is left out."""
        sent: dict[str, Any] = {}
        for attribute, name, encode in self._encoders:
            one = getattr(value, attribute)
            if encode is None:
                if one:
                    sent[name] = one
            elif one is not None:
                sent[name] = encode(one)
        return sent


class MessageCodec(MessageReader[V]):
    """Translates between one value class and the message that has the same fields and no other."""

    def __init__(self, value_class: type[V]) -> None:
        self._message_class = _message_class(value_class)
        super().__init__(value_class, self._message_class)
        names = {field.name for field in self._fields}
        if more := set(self._message_class.DESCRIPTOR.fields_by_name) - names:
            raise TypeError(f"{value_class.__name__} has no {more} of {self._message_class.DESCRIPTOR.name}")
        self._writer = MessageWriter(value_class, self._message_class)

    def encode(self, value: V) -> Message:
        return self._message_class(**self._writer.written(value))


def _defaults_of(value_class: Value) -> dict[str, Value]:
    """The defaults of a class's fields, in their order; `MISSING` where there is none."""
    if issubclass(value_class, tuple):
        return {name: value_class._field_defaults.get(name, MISSING) for name in value_class._fields}
    return {field.name: field.default for field in fields(value_class)}


class _FieldCodec:
    """One field: how its value is written into a message and read out of it."""

    def __init__(self, field: FieldDescriptor, attribute: str, hint: Value, default: Value) -> None:
        self.name = field.name
        self.attribute = attribute
        optional = NoneType in get_args(hint)
        if optional:
            (hint,) = [arg for arg in get_args(hint) if arg is not NoneType]
        origin: Value = get_origin(hint)
        sequence = origin in (tuple, list, Sequence)
        element = get_args(hint)[0] if sequence else hint
        self._collect = cast(Callable[[Any], Any], tuple if origin is Sequence else origin) if sequence else None
        self._optional = optional
        self._has_presence = field.has_presence
        self._encode, self._decode = _element_codec(field, element, default)

    def encoder(self) -> Encode | None:
        """None for a value that is sent as it is, and left out when it is the default."""
        encode = self._encode
        if self._collect is not None:
            return None if encode is _same else lambda values: [encode(one) for one in values]
        return None if encode is _same and not (self._optional and self._has_presence) else encode

    def decoder(self) -> Decode:
        name, decode, collect = self.name, self._decode, self._collect
        if self._optional and self._has_presence:
            return lambda message: decode(getattr(message, name)) if message.HasField(name) else None
        if self._optional:
            return lambda message: decode(value) if (value := getattr(message, name)) else None
        if collect is not None:
            return lambda message: collect([decode(one) for one in getattr(message, name)])
        if decode is _same:
            return attrgetter(name)
        return lambda message: decode(getattr(message, name))


def _same(value: Value) -> Value:
    return value


def _element_codec(field: FieldDescriptor, element: Value, default: Value) -> tuple[Encode, Decode]:
    if field.message_type is not None:
        if isinstance(element, UnionType):
            oneof = OneofCodec(_class_of_message(cast(Any, field.message_type).name), get_args(element))
            return oneof.encode, oneof.decode
        codec = codec_of(element)
        return codec.encode, codec.decode
    if field.enum_type is not None:
        numbers = enum_numbers(element, field.enum_type)
        members = {number: member for member, number in numbers.items()}
        if isinstance(default, Enum):
            # A record that was written before there was this field.
            members[0] = cast(Value, default)
        return numbers.__getitem__, members.__getitem__
    return _same, _same


def enum_numbers(enum_class: type[E], descriptor: EnumDescriptor) -> dict[E, int]:
    """Member to wire number, by name: `Modality.TEXT` is `MODALITY_TEXT`."""
    by_suffix = {value.name: value.number for value in descriptor.values}
    prefix = descriptor.values_by_number[0].name.removesuffix("UNSPECIFIED")
    return {member: by_suffix[prefix + member.name] for member in enum_class}


class OneofCodec:
    """A message that is one of several kinds, and the union of their value classes."""

    def __init__(self, message_class: type[Message], kinds: tuple[type, ...]) -> None:
        self._message_class = message_class
        (oneof,) = message_class.DESCRIPTOR.oneofs
        self._oneof = oneof.name
        field_of_message = {cast(Any, field.message_type).name: field.name for field in oneof.fields}
        self._by_class: dict[type, tuple[str, MessageCodec[Any]]] = {
            kind: (field_of_message[_message_class(kind).DESCRIPTOR.name], codec_of(kind)) for kind in kinds
        }
        self._by_field = dict(self._by_class.values())
        if missing := set(field_of_message.values()) - set(self._by_field):
            raise TypeError(f"{message_class.DESCRIPTOR.name} has kinds without a class: {missing}")

    def encode(self, value: Value) -> Message:
        field, codec = self._by_class[type(value)]
        return self._message_class(**{field: codec.encode(value)})

    def decode(self, message: Message) -> Value:
        field = cast(str, message.WhichOneof(self._oneof))
        return self._by_field[field].decode(getattr(message, field))


_CODECS: Final[dict[type, MessageCodec[Any]]] = {}


def codec_of(value_class: type[V]) -> MessageCodec[V]:
    codec = _CODECS.get(value_class)
    if codec is None:
        codec = _CODECS[value_class] = MessageCodec(value_class)
    return codec


_TRANSACTION: Final = codec_of(ev.Transaction)
_CONFIG: Final = codec_of(ev.SessionConfig)
_KEY_VALUE: Final = codec_of(KeyValue)
_PAGE: Final = codec_of(PageState)
_RESIDENT: Final = codec_of(Resident)
_REUSE: Final = codec_of(SessionReuse)
_COUNTERS_FIELDS: Final = [f.name for f in fields(Counters)]
_CHECKPOINT: Final = MessageCodec(Checkpoint)
_ARCHIVE: Final = codec_of(ev.ArchiveSegment)
_OPERATION: Final = codec_of(Operation)
_USAGE: Final = codec_of(ProviderUsage)
_EFFECT: Final = OneofCodec(session_pb2.Happening, get_args(fx.Effect))
_REASON_NUMBERS: Final = enum_numbers(FaultReason, page_pb2.FaultReason.DESCRIPTOR)
_REASONS: Final = {number: reason for reason, number in _REASON_NUMBERS.items()}
_STATE_NUMBERS: Final = enum_numbers(SessionState, session_pb2.SessionState.DESCRIPTOR)
_STATES: Final = {number: state for state, number in _STATE_NUMBERS.items()}


def encode_transaction(transaction: ev.Transaction) -> bytes:
    """Bytes of a LogRecord."""
    record = event_pb2.LogRecord(transaction=cast(event_pb2.Transaction, _TRANSACTION.encode(transaction)))
    return record.SerializeToString(deterministic=True)


def decode_transaction(message: event_pb2.Transaction) -> ev.Transaction:
    """Raises ReleaseTooOld: the events of rules that are not known may be of kinds that are not."""
    fold_rules(message.fold_version)
    return _TRANSACTION.decode(message)


def encode_archive_segment(segment: ev.ArchiveSegment) -> event_pb2.ArchiveSegment:
    return cast(event_pb2.ArchiveSegment, _ARCHIVE.encode(segment))


def decode_archive_segment(message: event_pb2.ArchiveSegment) -> ev.ArchiveSegment:
    return _ARCHIVE.decode(message)


def effect_message(happening: fx.RecordedEffect) -> session_pb2.Happening:
    message = cast(session_pb2.Happening, _EFFECT.encode(happening.what))
    message.revision, message.turn = happening.revision, happening.turn
    return message


def happenings_of(effects: Sequence[fx.RecordedEffect]) -> tuple[list[session_pb2.Happening], int]:
    """The first effects as an answer says them, and how many more there were."""
    told = effects[:HAPPENINGS_MAX]
    return [effect_message(effect) for effect in told], len(effects) - len(told)


def usage_message(usage: ProviderUsage) -> session_pb2.ProviderUsage:
    return cast(session_pb2.ProviderUsage, _USAGE.encode(usage))


def state_message(session: Session) -> event_pb2.SessionSnapshot:
    """The whole folded state, its own revision aside: that is where the message stands in the log."""
    counters = event_pb2.CountersSnapshot(
        **{name: getattr(session.counters, name) for name in _COUNTERS_FIELDS},
        faults_by_reason=[
            session_pb2.FaultCount(reason=cast(Any, number), count=session.faults_by_reason[reason])
            for reason, number in _REASON_NUMBERS.items()
            if reason in session.faults_by_reason
        ],
    )
    return event_pb2.SessionSnapshot(
        fold_version=session.fold_version,
        exists=session.exists,
        config=cast(session_pb2.SessionConfig, _CONFIG.encode(session.config)),
        labels=[cast(event_pb2.KeyValue, _KEY_VALUE.encode(label)) for label in session.labels],
        state=cast(Any, _STATE_NUMBERS[session.state]),
        turn=session.turn,
        created_unix_ms=session.created_unix_ms,
        updated_unix_ms=session.updated_unix_ms,
        parent_session_id=session.parent_session_id,
        parent_revision=session.parent_revision,
        pages=[cast(event_pb2.PageSnapshot, _PAGE.encode(page)) for page in session.pages.values()],
        reuse=cast(event_pb2.SessionReuse, _REUSE.encode(session.reuse)),
        resident=[cast(event_pb2.ResidentSnapshot, _RESIDENT.encode(r)) for r in session.working_set],
        counters=counters,
        recent_evictions=[
            event_pb2.EvictionSnapshot(page_id=page_id, turn=turn) for page_id, turn in session.recent_evictions.items()
        ],
        checkpoints=[cast(session_pb2.Checkpoint, _CHECKPOINT.encode(c)) for c in session.checkpoints.values()],
        archive=[encode_archive_segment(segment) for segment in session.archive],
        operations=[cast(event_pb2.OperationSnapshot, _OPERATION.encode(o)) for o in session.operations.values()],
        usage=[usage_message(usage) for usage in session.usage.values()],
    )


def encode_state(session: Session) -> bytes:
    """Serialized SessionSnapshot: byte-identical on every replica that folded the same records."""
    return state_message(session).SerializeToString(deterministic=True)


def state_digest(session: Session) -> bytes:
    return sha256(encode_state(session)).digest()


def decode_state(data: bytes, revision: int) -> Session:
    """Raises ReleaseTooOld for a state that was folded by rules or a policy that this release does not know."""
    message = event_pb2.SessionSnapshot.FromString(data)
    if message.fold_version > FOLD_VERSION:
        raise ReleaseTooOld(f"fold rules {message.fold_version}", f"fold rules up to {FOLD_VERSION}")
    logged_policy(message.config.eviction_policy)
    session = Session()
    session.revision = revision
    session.fold_version = max(UNNAMED_FOLD_VERSION, message.fold_version)
    session.changes = Changes(known_after=revision)
    session.exists = message.exists
    session.config = _CONFIG.decode(message.config)
    session.labels = tuple(_KEY_VALUE.decode(label) for label in message.labels)
    session.state = _STATES[message.state]
    session.turn = message.turn
    session.created_unix_ms = message.created_unix_ms
    session.updated_unix_ms = message.updated_unix_ms
    session.parent_session_id = message.parent_session_id
    session.parent_revision = message.parent_revision
    session.reuse = _REUSE.decode(message.reuse)
    session.working_set = WorkingSet(_RESIDENT.decode(resident) for resident in message.resident)
    for one in message.pages:
        page = _PAGE.decode(one)
        session.kinds.add(page.kind, page.first_size_tokens, page.reuse)
        session.pages.put(page)
        session.pages.settle((page.page_id,), session.working_set)
    session.hold_residents()
    session.counters = Counters(**{name: getattr(message.counters, name) for name in _COUNTERS_FIELDS})
    session.faults_by_reason = {_REASONS[fault.reason]: fault.count for fault in message.counters.faults_by_reason}
    session.recent_evictions = {eviction.page_id: eviction.turn for eviction in message.recent_evictions}
    session.checkpoints = {
        checkpoint.checkpoint_id: _CHECKPOINT.decode(checkpoint) for checkpoint in message.checkpoints
    }
    session.archive = [decode_archive_segment(segment) for segment in message.archive]
    session.usage = {usage.family: _USAGE.decode(usage) for usage in message.usage}
    session.operations = {operation.operation_id: _OPERATION.decode(operation) for operation in message.operations}
    return session


def compress_state(state: bytes) -> bytes:
    return zlib.compress(state, level=6)


def decompress_state(data: bytes) -> bytes:
    return zlib.decompress(data)
