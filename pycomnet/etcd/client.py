"""The etcd client: keys, transactions, leases, watches and the cluster's members."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from twisted.internet.defer import Deferred, succeed

from pycomnet.errors import EndpointError
from pycomnet.etcd.cluster import Cluster
from pycomnet.etcd.errors import EtcdUnavailable
from pycomnet.etcd.keepalives import Keepalives
from pycomnet.etcd.requests import (
    encode_delete,
    encode_numbers,
    encode_put,
    encode_range,
    encode_txn,
)
from pycomnet.etcd.responses import (
    decode_alarms,
    decode_delete,
    decode_grant,
    decode_header,
    decode_leases,
    decode_members,
    decode_put,
    decode_range,
    decode_status,
    decode_time_to_live,
    decode_txn,
)
from pycomnet.etcd.values import (
    Compare,
    DeleteRequest,
    DeleteResponse,
    KeyRange,
    KeyValue,
    LeaseGrant,
    MemberAlarm,
    MemberInfo,
    MemberStatus,
    Operation,
    PutRequest,
    PutResponse,
    RangeRequest,
    RangeResponse,
    ResponseHeader,
    TimeToLive,
    TxnRequest,
    TxnResponse,
)
from pycomnet.etcd.watches import EtcdWatch, EtcdWatchHandler
from pycomnet.net.endpoints import is_exposed
from pycomnet.net.reactors import EndpointReactor
from pycomnet.ranges import real

_KV = "/etcdserverpb.KV"
_LEASE = "/etcdserverpb.Lease"
_MAINTENANCE = "/etcdserverpb.Maintenance"


class EtcdClient:
    """A client of an etcd cluster, version 3.4 or later.

    Each method returns a Deferred, unless stated otherwise. It fails with an error of
    :mod:`pycomnet.etcd.errors`. Only :class:`~pycomnet.etcd.errors.EtcdUncertain` means that
    something may have changed. Cancelling the Deferred cancels the request, but etcd may still
    execute a write.

    If a member fails, the client sends reads, and writes that were certainly not executed, to
    another member, until the timeout has passed.

    :param endpoints: the members' endpoint strings, such as ``tcp:HOST:2379`` and
        ``tls:HOST:2379:trustRoots=FILE``.
    :param user: the user's name, if the cluster has authentication. Then ``password`` is required.
    :param timeout: the default timeout of a request, in seconds.
    :param plain_login: whether the client may send the password and tokens to other machines
        without TLS. It always may to this machine's own addresses.
    :param reactor: for connections and as the clock.
    """

    def __init__(
        self,
        endpoints: Sequence[str],
        reactor: EndpointReactor,
        *,
        user: str | None = None,
        password: str | None = None,
        timeout: float = 5.0,
        plain_login: bool = False,
    ) -> None:
        if not endpoints:
            raise EndpointError("an etcd client needs at least one endpoint")
        if (user is None) != (password is None):
            raise ValueError("a user needs a password, and a password a user")
        exposed = [one for one in endpoints if is_exposed(one)]
        if user is not None and exposed and not plain_login:
            raise EndpointError(
                f"{exposed[0]} has no TLS: everybody on the way would read the password; connect "
                "with tls:, or pass plain_login=True if the network is trusted"
            )
        real("timeout", timeout, above=True)
        login = None if user is None or password is None else (user, password)
        self._cluster = Cluster(endpoints, reactor, login, timeout)
        self._keepalives = Keepalives(self._cluster, reactor)
        self._reactor = reactor
        self._timeout = timeout

    def connect(self) -> Deferred[None]:
        """Connect to the members. The client keeps connecting and reconnecting until
        :meth:`close`.

        :returns: fires when the first member is connected (and the user is authenticated). Fails
            with EtcdUnavailable after ``timeout``, or with EtcdAuthFailed. The client keeps trying
            after a failure, too.
        """
        connected = self._cluster.open()
        connected.addTimeout(self._timeout, self._reactor, self._not_connected)
        return connected

    def _not_connected(self, result: object, timeout: float) -> NoReturn:
        raise EtcdUnavailable(f"no member within {timeout:g} s: {self._cluster.problem()}")

    def close(self) -> Deferred[None]:
        """Close all connections. Reads in progress fail with EtcdClosed, writes with
        EtcdUncertain, and watches are cancelled with EtcdClosed.
        """
        self._cluster.close()
        self._keepalives.close()
        return succeed(None)

    def range(
        self, request: RangeRequest | KeyRange, *, timeout: float | None = None
    ) -> Deferred[RangeResponse]:
        """Read a range of keys."""
        if isinstance(request, KeyRange):
            request = RangeRequest(request)
        return self._cluster.call(
            f"{_KV}/Range",
            encode_range(request),
            decode_range,
            timeout=timeout,
            needs_leader=not request.serializable,
        )

    def get(
        self, key: bytes, *, serializable: bool = False, timeout: float | None = None
    ) -> Deferred[KeyValue | None]:
        """Read a key; fires with None if it does not exist."""
        request = RangeRequest(KeyRange(key), serializable=serializable)
        reading = self.range(request, timeout=timeout)
        return reading.addCallback(lambda answer: answer.kvs[0] if answer.kvs else None)

    def put(
        self,
        key: bytes,
        value: bytes,
        *,
        lease: int = 0,
        previous: bool = False,
        timeout: float | None = None,
    ) -> Deferred[PutResponse]:
        """Write a key."""
        message = encode_put(PutRequest(key, value, lease, previous))
        return self._write(f"{_KV}/Put", message, decode_put, timeout)

    def delete(
        self, keys: bytes | KeyRange, *, previous: bool = False, timeout: float | None = None
    ) -> Deferred[DeleteResponse]:
        """Delete a key or a range."""
        message = encode_delete(DeleteRequest(_range_of(keys), previous))
        return self._write(f"{_KV}/DeleteRange", message, decode_delete, timeout)

    def txn(
        self,
        compares: Sequence[Compare] = (),
        success: Sequence[Operation] = (),
        failure: Sequence[Operation] = (),
        *,
        timeout: float | None = None,
    ) -> Deferred[TxnResponse]:
        """Execute a transaction."""
        message = encode_txn(TxnRequest(tuple(compares), tuple(success), tuple(failure)))
        return self._write(f"{_KV}/Txn", message, decode_txn, timeout)

    def _write(
        self, path: str, message: bytes, decode: Callable[[bytes], Any], timeout: float | None
    ) -> Deferred[Any]:
        return self._cluster.call(path, message, decode, timeout=timeout, is_write=True)

    def compact(
        self, revision: int, *, physical: bool = False, timeout: float | None = None
    ) -> Deferred[ResponseHeader]:
        """Have etcd discard all history before a revision."""
        message = encode_numbers(revision, physical)
        return self._write(f"{_KV}/Compact", message, decode_header, timeout)

    def grant(self, ttl: int, *, id: int = 0, timeout: float | None = None) -> Deferred[LeaseGrant]:
        """Create a lease.

        :param ttl: whole seconds; etcd grants at least 2.
        :param id: the lease's id; 0: etcd chooses one.
        """
        return self._write(f"{_LEASE}/LeaseGrant", encode_numbers(ttl, id), decode_grant, timeout)

    def revoke(self, lease: int, *, timeout: float | None = None) -> Deferred[ResponseHeader]:
        """End a lease; etcd deletes its keys."""
        message = encode_numbers(lease)
        return self._write(f"{_LEASE}/LeaseRevoke", message, decode_header, timeout)

    def keepalive(self, lease: int, *, timeout: float | None = None) -> Deferred[int]:
        """Renew a lease. All renewals share one stream to the leader.

        :returns: fires with the seconds that the lease lasts from now on. Fails with
            EtcdLeaseNotFound; or with EtcdUnavailable or EtcdTimeout, when the lease may have been
            renewed.
        """
        if timeout is None:
            timeout = self._timeout
        return self._keepalives.renew(lease, real("timeout", timeout, above=True))

    def time_to_live(
        self, lease: int, *, keys: bool = False, timeout: float | None = None
    ) -> Deferred[TimeToLive]:
        """The seconds that a lease has left; ``ttl`` is -1 if there is no such lease."""
        message = encode_numbers(lease, keys)
        path = f"{_LEASE}/LeaseTimeToLive"
        return self._cluster.call(path, message, decode_time_to_live, timeout=timeout)

    def leases(self, *, timeout: float | None = None) -> Deferred[list[int]]:
        """The ids of all leases that a member knows."""
        return self._cluster.call(f"{_LEASE}/LeaseLeases", b"", decode_leases, timeout=timeout)

    def watch(
        self,
        keys: bytes | KeyRange,
        handler: EtcdWatchHandler,
        *,
        start_revision: int = 0,
        previous: bool = False,
        progress: bool = False,
        fragment: bool = True,
        require_leader: bool = True,
    ) -> EtcdWatch:
        """Watch keys.

        :param handler: its methods are called with what happens; see :class:`EtcdWatchHandler`.
        :param start_revision: the revision to start at; 0: the next change.
        :param previous: whether events include the record before the change.
        :param progress: whether etcd sends its revision while nothing changes (every ten minutes
            by default). :meth:`EtcdWatch.request_progress` requests one more.
        :param fragment: whether etcd may split long lists of events. The client joins the parts.
        :param require_leader: whether the watch moves to another member if its member has lost the
            leader (etcd reports that after about 3 election timeouts).
        :returns: the watch, which has started.
        """
        watch = EtcdWatch(
            self._cluster,
            _range_of(keys),
            handler,
            start_revision,
            previous,
            progress,
            fragment,
            require_leader,
        )
        self._cluster.want(watch)
        return watch

    def status(
        self, endpoint: str | None = None, *, timeout: float | None = None
    ) -> Deferred[MemberStatus]:
        """The status of the member at an endpoint, or of any member."""
        member = None
        if endpoint is not None:
            member = next((one for one in self._cluster.members if one.endpoint == endpoint), None)
            if member is None:
                raise EndpointError(f"{endpoint!r} is none of this client's endpoints")
        path = f"{_MAINTENANCE}/Status"
        return self._cluster.call(
            path, b"", decode_status, timeout=timeout, needs_leader=False, member=member
        )

    def member_list(self, *, timeout: float | None = None) -> Deferred[list[MemberInfo]]:
        """The members of the cluster."""
        path = "/etcdserverpb.Cluster/MemberList"
        return self._cluster.call(path, b"", decode_members, timeout=timeout, needs_leader=False)

    def alarms(self, *, timeout: float | None = None) -> Deferred[list[MemberAlarm]]:
        """All active alarms."""
        path = f"{_MAINTENANCE}/Alarm"
        return self._cluster.call(path, b"", decode_alarms, timeout=timeout)

    def disarm(
        self, alarm: MemberAlarm, *, timeout: float | None = None
    ) -> Deferred[list[MemberAlarm]]:
        """Clear an alarm. Remove its cause first."""
        message = encode_numbers(2, alarm.member_id, alarm.kind)
        return self._write(f"{_MAINTENANCE}/Alarm", message, decode_alarms, timeout)


def _range_of(keys: bytes | KeyRange) -> KeyRange:
    return KeyRange(keys) if isinstance(keys, bytes) else keys
