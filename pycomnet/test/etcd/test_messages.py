"""etcd's messages: what is written is what was meant, and hostile bytes raise one error."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pycomnet.etcd import (
    Compare,
    CompareRelation,
    CompareTarget,
    DeleteRequest,
    DeleteResponse,
    EtcdProtocolViolation,
    EtcdRequestRefused,
    EtcdUncertain,
    KeyRange,
    KeyValue,
    MemberAlarm,
    MemberInfo,
    PutRequest,
    PutResponse,
    RangeRequest,
    RangeResponse,
    ResponseHeader,
    SortOrder,
    SortTarget,
    TimeToLive,
    TxnRequest,
    TxnResponse,
    protobuf,
    requests,
    responses,
)
from pycomnet.etcd.grpc import MAX_MESSAGE, MessageReader, check_status, error_of, framed, unframed
from pycomnet.etcd.protobuf import (
    bytes_field,
    fields,
    message_field,
    number_field,
    signed,
    varint,
)
from pycomnet.test.etcd.kit import bytes_of, header, key_value, numbers_of
from pycomnet.test.properties import examples, given, settings

DECODERS: list[Callable[[bytes], Any]] = [
    function
    for name, function in inspect.getmembers(responses, inspect.isfunction)
    if name.startswith("decode_")
]
INT64 = st.integers(-(1 << 63), (1 << 63) - 1)
#: Fields of a KeyValue: the number, the value and the encoding.
KNOWN_FIELDS = st.one_of(
    st.builds(
        lambda number, value: (number, value, varint(number << 3) + varint(value)),
        st.sampled_from((2, 3, 4, 6)),
        st.one_of(INT64, st.integers(0, 300)),
    ),
    st.builds(
        lambda number, value: (number, value, message_field(number, value)),
        st.sampled_from((1, 5)),
        st.one_of(st.binary(max_size=5), st.binary(min_size=126, max_size=130)),
    ),
)
#: Fields that no KeyValue has: of each kind, with tags of one byte and of two. One with the number
#: of a known field, but of another kind, is none of it either.
UNKNOWN_FIELDS = st.builds(
    lambda number, kind: (0, None, varint(number << 3 | kind[0]) + kind[1]),
    st.one_of(st.integers(7, 15), st.integers(16, 2000)),
    st.sampled_from(
        ((0, b"\xff" * 9 + b"\x01"), (1, b"\xff" * 8), (2, b"\x02\xff\xff"), (5, b"\xff" * 4))
    ),
) | st.builds(
    lambda number, kind: (0, None, varint(number << 3 | kind[0]) + kind[1]),
    st.integers(1, 6),
    st.sampled_from(((1, b"\xff" * 8), (5, b"\xff" * 4))),
)


class ProtobufTests(SynchronousTestCase):
    """Numbers, bytes, and messages of them."""

    @given(INT64)
    def test_numbers_come_back(self, number: int) -> None:
        """All that int64 has."""
        data = varint(1 << 3) + varint(number)
        [(tag, value, _)] = fields(data, 0, len(data))
        self.assertEqual((tag, signed(value)), (8, number))

    def test_numbers_are_written_as_the_specification_has_them(self) -> None:
        """Its own examples, and a negative one."""
        self.assertEqual(number_field(1, 150), b"\x08\x96\x01")
        self.assertEqual(bytes_field(2, b"testing"), b"\x12\x07testing")
        self.assertEqual(varint(-1), b"\xff" * 9 + b"\x01")
        for number in (127, 128, 2047, 2048):  # where lengths have one more byte, or are not kept
            data = message_field(1, bytes(number))
            self.assertEqual(data, varint(1 << 3 | 2) + varint(number) + bytes(number))
            begin = len(data) - number
            self.assertEqual(fields(data, 0, len(data)), [(1 << 3 | 2, begin, len(data))])
            self.assertEqual(number_field(1, number), b"\x08" + data[1:begin])
        self.assertRaises(OverflowError, varint, 1 << 64)

    def test_defaults_are_left_out(self) -> None:
        """Except where a field says that it is there."""
        self.assertEqual((number_field(1, 0), bytes_field(1, b"")), (b"", b""))
        self.assertEqual(message_field(1, b""), b"\x0a\x00")

    def test_unknown_fields_are_skipped(self) -> None:
        """Of each kind, and with numbers of two bytes."""
        unknown = b"\x09" + b"x" * 8 + b"\x0d" + b"x" * 4 + varint(100 << 3) + b"\x01"
        data = unknown + number_field(2, 7) + varint(100 << 3 | 2) + b"\x01x"
        self.assertEqual(numbers_of(data), {2: 7, 100: 1})
        self.assertEqual(bytes_of(data), {100: b"x"})

    def test_what_is_no_message_is_refused(self) -> None:
        """Cut, too long, of kinds that are no more."""
        for wrong in (
            b"\x08",
            b"\x08\xff",
            b"\x12\x05ab",
            b"\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
            b"\x08" + b"\xff" * 11,
            b"\x09abc",
            b"\x0dab",
            b"\x0b",
            b"\x0c",
            b"\x0f",
            b"\xff" * 12,
        ):
            with self.assertRaises(EtcdProtocolViolation, msg=repr(wrong)):
                fields(wrong, 0, len(wrong))


class RequestTests(SynchronousTestCase):
    """What is asked."""

    def test_a_range_has_all_its_fields(self) -> None:
        """With etcd's numbers."""
        request = RangeRequest(
            KeyRange(b"a", b"b"),
            limit=3,
            revision=4,
            serializable=True,
            keys_only=True,
            count_only=True,
            sort_order=SortOrder.DESCEND,
            sort_target=SortTarget.VALUE,
            min_mod_revision=10,
            max_mod_revision=11,
        )
        encoded = requests.encode_range(request)
        self.assertEqual(bytes_of(encoded), {1: b"a", 2: b"b"})
        self.assertEqual(
            numbers_of(encoded), {3: 3, 4: 4, 5: 2, 6: 4, 7: 1, 8: 1, 9: 1, 10: 10, 11: 11}
        )

    def test_a_compare_says_what_it_compares(self) -> None:
        """One field of the union, for each target."""
        for target, number in (("VERSION", 4), ("CREATE_REVISION", 5), ("MOD_REVISION", 6)):
            compare = Compare(b"k", CompareTarget[target], 0, CompareRelation.GREATER)
            self.assertEqual(numbers_of(requests.encode_compare(compare))[number], 0)
        lease = Compare(b"k", CompareTarget.LEASE, 5, CompareRelation.NOT_EQUAL, b"l")
        encoded = requests.encode_compare(lease)
        self.assertEqual(numbers_of(encoded), {1: 3, 2: 4, 8: 5})
        self.assertEqual(bytes_of(encoded), {3: b"k", 64: b"l"})
        value = requests.encode_compare(Compare(b"k", CompareTarget.VALUE, b""))
        self.assertEqual(bytes_of(value), {3: b"k", 7: b""})

    def test_an_operand_of_the_wrong_kind_is_refused(self) -> None:
        """It would be another compare."""
        for compare in (
            Compare(b"k", CompareTarget.VERSION, b"1"),
            Compare(b"k", CompareTarget.VALUE, 1),
        ):
            self.assertRaises(TypeError, requests.encode_compare, compare)

    def test_transactions_may_be_nested(self) -> None:
        """Not for ever."""
        request = TxnRequest((), (DeleteRequest(KeyRange(b"a"), True),))
        for _ in range(requests.MAX_DEPTH):
            request = TxnRequest((), (request,))
        encoded = requests.encode_txn(request)
        self.assertRaises(ValueError, requests.encode_txn, TxnRequest((), (request,)))
        self.assertEqual(list(bytes_of(encoded)), [2])
        wrong: Any = TxnRequest((), (None,))  # type: ignore[arg-type]
        self.assertRaises(TypeError, requests.encode_txn, wrong)

    def test_a_put_has_all_its_fields(self) -> None:
        """With etcd's numbers."""
        encoded = requests.encode_put(PutRequest(b"k", b"v", 7, True, True, True))
        self.assertEqual(bytes_of(encoded), {1: b"k", 2: b"v"})
        self.assertEqual(numbers_of(encoded), {3: 7, 4: 1, 5: 1, 6: 1})


class AnswerTests(SynchronousTestCase):
    """What is answered."""

    def test_answers_are_read(self) -> None:
        """Each kind, with all that it has."""
        kv = KeyValue(b"k", b"v", 3, 3, 1, 9)
        encoded = key_value(b"k", b"v", 3, 9)
        head = ResponseHeader(0xCDF818194E3A8C32, 1, 7, 1)
        found = responses.decode_range(
            header(7) + message_field(2, encoded) * 2 + number_field(3, 1) + number_field(4, 5)
        )
        self.assertEqual(found, RangeResponse(head, [kv, kv], True, 5))
        self.assertEqual(
            responses.decode_delete(header(7) + number_field(2, 1) + message_field(3, encoded)),
            DeleteResponse(head, 1, [kv]),
        )
        self.assertEqual(
            responses.decode_put(header(7) + message_field(2, encoded)), PutResponse(head, kv)
        )
        self.assertEqual(
            responses.decode_time_to_live(
                header(7)
                + number_field(2, 4)
                + number_field(3, -1)
                + number_field(4, 6)
                + message_field(5, b"k")
            ),
            TimeToLive(head, 4, -1, 6, [b"k"]),
        )
        member = number_field(1, 1 << 63) + message_field(2, b"m") + message_field(3, b"p")
        member += message_field(4, b"c") + number_field(5, 1)
        self.assertEqual(
            responses.decode_members(header(7) + message_field(2, member)),
            [MemberInfo(1 << 63, "m", ["p"], ["c"], True)],
        )
        alarm = message_field(2, number_field(1, 5) + number_field(2, 1))
        self.assertEqual(responses.decode_alarms(alarm), [MemberAlarm(5, 1)])
        self.assertEqual(responses.decode_leases(message_field(2, number_field(1, 5))), [5])

    @settings(max_examples=examples(400))
    @given(st.lists(st.one_of(KNOWN_FIELDS, UNKNOWN_FIELDS), max_size=8))
    def test_a_record_has_its_fields_in_any_order(self, some: list[tuple[int, Any, bytes]]) -> None:
        """The last of each counts, and fields of later versions of etcd are skipped."""
        data = b"".join(encoded for _, _, encoded in some)
        last = {number: value for number, value, _ in some}
        expected = KeyValue(
            last.get(1, b""),
            last.get(5, b""),
            *(last.get(number, 0) for number in (2, 3, 4, 6)),
        )
        found = responses.decode_range(message_field(2, data) + number_field(4, 1))
        self.assertEqual((found.kvs, found.count), ([expected], 1))

    def test_the_ids_of_headers_are_kept_only_if_they_are_ids(self) -> None:
        """Another revision, another member, another order of fields: the same as without."""
        big = [(1 << 63) + number for number in range(3)]
        nine, eight = 1 << 60, 1 << 50
        for cluster, member, revision in (
            (nine, big[1], 3),
            (nine, big[1], 4),
            (nine, eight, 5),
            (eight, nine, 6),
            (eight, eight, 6),
            (nine, 3, 6),
            (3, nine, 6),
            (3 | 0x10 << 7, nine, 6),
            (big[0], big[1], 5),
            (big[0], big[1], 6),
            (big[0], big[2], 7),
            (big[0], 3, 8),
            (3, big[0], 9),
            (0, 0, 10),
        ):
            ids = number_field(1, cluster) + number_field(2, member)
            rest = number_field(3, revision) + number_field(4, 2)
            for order in (ids + rest, rest + ids):
                for _ in range(2):
                    self.assertEqual(
                        responses.decode_header(message_field(1, order) + b"\x18" * 4),
                        ResponseHeader(cluster, member, revision, 2),
                    )
        ids = number_field(1, nine) + number_field(2, big[1])
        cut = message_field(1, ids[:-1]) + ids[-1:] + b"\x18\x01"
        self.assertRaises(EtcdProtocolViolation, responses.decode_header, cut)

    def test_an_answer_nested_too_deep_is_refused(self) -> None:
        """It would take the stack."""
        data = b""
        for _ in range(100):
            data = message_field(3, message_field(4, data))
        self.assertRaises(EtcdProtocolViolation, responses.decode_txn, data)
        self.assertEqual(
            responses.decode_txn(message_field(3, message_field(4, b""))).responses,
            [TxnResponse(ResponseHeader(), False, [])],
        )

    @settings(max_examples=examples(400))
    @given(st.binary(max_size=60))
    def test_hostile_bytes_raise_one_error(self, data: bytes) -> None:
        """In each decoder; it is that one or none."""
        for decode in DECODERS:
            with contextlib.suppress(EtcdProtocolViolation):
                decode(data)

    @settings(max_examples=examples(400))
    @given(st.data())
    def test_damaged_answers_raise_one_error(self, data: st.DataObject) -> None:
        """A real answer, of which some bytes are others."""
        put = message_field(3, message_field(2, header(8)))
        kv = message_field(3, message_field(1, message_field(2, key_value(b"k", b"v", 3))))
        whole = bytearray(header(7) + number_field(2, 1) + put + kv)
        for _ in range(data.draw(st.integers(1, 4))):
            whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
        for decode in DECODERS:
            with contextlib.suppress(EtcdProtocolViolation):
                decode(bytes(whole))


class GrpcTests(SynchronousTestCase):
    """Messages with their lengths, and how calls end."""

    @given(st.lists(st.binary(max_size=20), max_size=5), st.integers(1, 9))
    def test_messages_come_in_any_pieces(self, messages: list[bytes], size: int) -> None:
        """The same are read."""
        data = b"".join(map(framed, messages))
        reader, found = MessageReader(), []
        for at in range(0, len(data), size):
            found += reader.receive(data[at : at + size])
        self.assertEqual(found, messages)

    def test_what_is_no_message_is_refused(self) -> None:
        """Compressed, too long, cut."""
        too_long = (MAX_MESSAGE + 1).to_bytes(4, "big")
        for wrong in (b"\x01\0\0\0\0", b"\0" + too_long):
            self.assertRaises(EtcdProtocolViolation, MessageReader().receive, wrong)
        for wrong in (b"", b"\0\0\0", b"\1\0\0\0\0", b"\0\0\0\0\2x", b"\0\0\0\0\0x"):
            self.assertRaises(EtcdProtocolViolation, unframed, wrong)

    def test_a_status_that_is_none_is_an_error(self) -> None:
        """Absent, no number, far too long: a write is uncertain then."""
        for status in (None, b"", b"x", b"-1", b"9" * 5000):
            trailers = {} if status is None else {b"grpc-status": status}
            error = check_status(trailers, True)
            self.assertIsInstance(error, EtcdUncertain)
        encoded = {b"grpc-status": b"3", b"grpc-message": b"100%25%1B[2J"}
        self.assertNotIn("\x1b", str(check_status(encoded, True)))


class BoundTests(SynchronousTestCase):
    """What a member can do to the client."""

    def test_messages_of_too_many_fields_are_refused(self) -> None:
        """Each takes far more memory than the two bytes that it comes in."""
        self.patch(protobuf, "MOST_FIELDS", 1000)
        data = b"\x08\x01" * 100_000
        with self.assertRaisesRegex(EtcdProtocolViolation, "over 1000"):
            fields(data, 0, len(data))
        few = message_field(1, b"x" * 1000) * 900
        self.assertEqual(len(fields(few, 0, len(few))), 900)

    def test_a_write_whose_answer_is_too_large_was_executed(self) -> None:
        """The member has executed it before it finds that it can't send the answer."""
        text = "grpc: trying to send message larger than max (9 vs. 8)"
        self.assertIs(type(error_of(8, text, True)), EtcdUncertain)
        self.assertIs(type(error_of(8, text, False)), EtcdRequestRefused)
        text = "grpc: received message larger than max (9 vs. 8)"
        self.assertIs(type(error_of(8, text, True)), EtcdRequestRefused)
