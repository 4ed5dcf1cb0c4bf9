"""The conversation with a far side that makes an environment."""

from __future__ import annotations

import hashlib
import itertools
import json
import posixpath
import re
from typing import IO, TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorThreads
from twisted.python.failure import Failure

from pycomnet.errors import ChannelClosed, ConnectionLost, RemoteError
from pycomnet.services.threads import in_thread
from pycomnet.text.printable import visible
from pycomnet.xdeploy.farcode import ask, explained, no_message
from pycomnet.xdeploy.interpreter import FarInterpreter
from pycomnet.xdeploy.plan import PackageIndex, Plan, SourceFile
from pycomnet.xdeploy.request import Venv, VenvProgress, VenvRequest
from pycomnet.xdeploy.requirements import Requirements
from pycomnet.xdeploy.resolve import (
    BuildFailed,
    DeploymentFailed,
    ResolutionFailed,
    Resolver,
    tail,
)
from pycomnet.xdeploy.wheelcache import WheelCache

if TYPE_CHECKING:
    from pycomnet.channels.channel import Channel
    from pycomnet.gateways.gateway import Gateway

#: Bytes of a wheel that are sent at a time.
PIECE = 1 << 18
#: pip's message if there is no version that fits.
NOT_FOUND = (
    *("No matching distribution found", "ResolutionImpossible"),
    *("DO NOT MATCH THE HASHES", "--require-hashes mode"),
)


class Deployment:
    """The conversation with the far side about one environment.

    :param gateway: where it is to be; its interpreter is the environment's.
    :param look: whether only to find the environment; then it may have another interpreter.
    :ivar ready: the far side's report about it; empty if it was not found.
    """

    def __init__(self, gateway: Gateway, request: VenvRequest, look: bool = False) -> None:
        self._gateway = gateway
        self._request = request
        self._look = look
        self._channel: Channel | None = None
        self._plan = Plan()
        #: why a file could not be sent
        self._problem: BaseException | None = None
        self.ready: dict[str, Any] = {}
        self._resolved = False
        self._venv: Venv | None = None

    async def run(self) -> None:
        """Find the environment, or have it made. The far side keeps it until :meth:`close`."""
        request = self._request
        asked = {**request.far_map(), "look": self._look}
        self._channel = channel = ask(self._gateway, asked)
        try:
            while not self.ready:
                message = await channel.receive()
                if message == {"absent": True} and self._look:
                    return
                await self._answer(channel, message)
            request.progress(VenvProgress("ready"))
        except RemoteError as problem:
            raise explained(problem) from None
        except BaseException as problem:
            channel.close()
            if self._problem is not None:
                raise DeploymentFailed(f"a wheel can't be read: {self._problem}") from problem
            raise

    def close(self) -> None:
        """End the conversation. The environment may be removed then, unless something uses it."""
        if self._channel is not None:
            self._channel.close()

    @property
    def lock_path(self) -> str:
        """The file of the lock on the environment's use."""
        return f"{self.ready['root']}/locks/use-{self.ready['identity']}"

    @property
    def venv(self) -> Venv:
        """The environment; it has been found or made."""
        assert self._venv is not None
        return self._venv

    def _read(self, ready: dict[str, Any]) -> Venv:
        """The environment that the far side reports."""
        match ready:
            case {
                "identity": str(identity),
                "path": str(path),
                "root": str(root),
                "PATH": str(),
                "about": bytes(about),
                "made": bool(made),
            } if self._is_place(root, identity, path):
                try:
                    packages = dict(json.loads(about)["packages"])
                except (ValueError, KeyError, TypeError, RecursionError):
                    raise no_message(ready) from None
                if not all(isinstance(text, str) for text in itertools.chain(*packages.items())):
                    raise no_message(ready)
                python = f"{path}/bin/python"
                return Venv(self._request.name, identity, path, python, packages, made)
        raise no_message(ready)

    def _is_place(self, root: str, identity: str, path: str) -> bool:
        """Whether an environment may be there: in the directory that was asked for."""
        asked = self._request.directory
        return (
            posixpath.isabs(root)
            and "\0" not in root
            and re.fullmatch("[0-9a-f]{32}", identity) is not None
            and path == f"{root}/environments/{identity}"
            and (asked is None or not posixpath.isabs(asked) or posixpath.normpath(asked) == root)
        )

    async def _answer(self, channel: Channel, message: Any) -> None:
        progress = self._request.progress
        match message:
            case {"ready": dict(ready)}:
                self._venv = self._read(ready)
                self.ready = ready
            case {"waiting": int() | None as holder}:
                progress(VenvProgress("waiting", detail=str(holder or "")))
            case {"free": True}:
                await channel.send(None)  # the far side tries again
            case {"progress": [str(stage), int(done), int(total)]}:
                progress(VenvProgress(stage, done, total))
            case {"resolve": dict(facts)} if not self._resolved:
                self._resolved = True  # each time, packages are downloaded and built here
                await channel.send(await self._answer_plan(facts))
            case {"send": [*digests]} if all(map(self._is_planned, digests)):
                # The far side reports its progress meanwhile.
                sending = Deferred.fromCoroutine(self._send_all(channel, digests))
                sending.addErrback(self._not_sent, channel)
            case {"failed": [str(name), int(status), str(output)]}:
                raise self._build_failed(name, status, output)
            case _:
                raise no_message(message)

    def _is_planned(self, digest: object) -> bool:
        return isinstance(digest, str) and digest in self._plan.files()

    async def _answer_plan(self, facts: dict[str, Any]) -> dict[str, Any]:
        """Make the plan, or what the far side needs to make it."""
        request = self._request
        resolver = await self._resolver(facts)
        if not request.far:
            self._plan = await resolver.resolve(
                request.requirements, upgrade=request.upgrade, projects=request.projects
            )
            return self._plan.as_map()
        pip = Plan()
        if not facts.get("pip"):
            pip = await resolver.resolve(Requirements.of("pip"))
        self._plan = Plan((*pip.wheels, *request.projects))
        return {
            "requirements": list(request.requirements.lines),
            "constraints": list(request.requirements.constraints),
            "hashed": request.requirements.hashed,
            "sdists": [file.row() for file in request.projects],
            "pip": [file.row() for file in pip.wheels],
            "index": request.index.given,
        }

    async def _resolver(self, facts: dict[str, Any]) -> Resolver:
        request = self._request

        def told(what: str) -> None:
            stage, _, detail = what.partition(" ")
            request.progress(VenvProgress(stage, detail=detail))

        try:
            interpreter = FarInterpreter.of(facts)
        except (KeyError, ValueError):
            raise no_message(facts) from None
        reactor = IReactorThreads(self._gateway.link.reactor)
        # There are some thousands. From then on they are known.
        await in_thread(reactor, interpreter.tag_texts)
        return Resolver(
            interpreter,
            reactor,
            # An index that is given is the far machine's.
            index=PackageIndex() if request.far else request.index,
            cache=request.cache,
            told=told,
            builds_here=self._gateway.spec.trusted is not False,
        )

    async def _send_all(self, channel: Channel, digests: list[str]) -> None:
        """Send files one after the other; the far side knows how many bytes each has.

        :raises OSError: a file can't be read, or has changed.
        """
        reactor = IReactorThreads(self._gateway.link.reactor)
        files = self._plan.files()
        for digest in digests:
            with open(files[digest].path, "rb") as opened:
                reader = _Reader(files[digest], opened, self._request.cache)
                while piece := await in_thread(reactor, reader.read):
                    await channel.send(piece)

    def _not_sent(self, failure: Failure, channel: Channel) -> None:
        """A file can't be sent: the conversation is over."""
        if not failure.check(ChannelClosed, ConnectionLost):
            self._problem = failure.value
            channel.close(f"a wheel can't be read: {failure.getErrorMessage()}")

    def _build_failed(self, name: str, status: int, output: str) -> DeploymentFailed:
        if self._request.far and any(text in output for text in NOT_FOUND):
            return ResolutionFailed(
                f"the far machine's pip finds nothing for {self._request.requirements}:\n"
                f"{tail(output)}",
                output,
            )
        here = [build.output for build in self._plan.builds if build.sdist.name == name]
        tried = "".join(f"\nWhen it was tried here:\n{tail(text)}" for text in here if text)
        return BuildFailed(
            f"{visible(name[:200])} can't be built at the far side: its build ended with status "
            f"{status}:\n{tail(output)}{tried}",
            output,
        )


class _Reader:
    """Reads a file of the cache, and checks its hash before it returns the last piece.

    The far side waits for exactly as many bytes as it was told: if the file has changed, it does
    not get the last piece.
    """

    def __init__(self, file: SourceFile, opened: IO[bytes], cache: WheelCache) -> None:
        self._file = file
        self._opened = opened
        self._cache = cache
        self._left = file.size
        self._found = hashlib.sha256()

    def read(self) -> bytes:
        """The next piece; the last one only if all is as it was.

        :raises OSError: it is not.
        """
        piece = self._opened.read(min(PIECE, self._left))
        self._left -= len(piece)
        self._found.update(piece)
        over = self._left == 0 or not piece
        if over and (self._left or self._found.hexdigest() != self._file.sha256):
            self._cache.forget(self._file)
            raise OSError(
                f"{self._file.path} is not what it was when it was put into the cache: it was "
                "removed; try again"
            )
        return piece
