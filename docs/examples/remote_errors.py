"""What goes wrong there is an error here, and says what it was."""

import signal

from twisted.internet.task import react

import pycomnet


def read_port(channel, settings):
    try:
        channel.send(int(settings["port"]))
    except KeyError as error:
        raise ValueError("the settings are not complete") from error


def crash(channel):
    import os

    os.kill(os.getpid(), 9)


async def main(reactor):
    async with pycomnet.Group(reactor) as group:
        gateway = await group.makegateway("popen")

        # The far code raises: RemoteError has its traceback, with source lines and causes.
        channel = gateway.remote_exec(read_port, settings={})
        try:
            await channel.receive()
        except pycomnet.RemoteError as error:
            assert error.type == "ValueError"
            assert error.message == "the settings are not complete"
            assert "KeyError: 'port'" in error.formatted
            assert 'channel.send(int(settings["port"]))' in error.formatted
            assert "remote_errors.py" in error.formatted
        else:
            raise AssertionError("it did not fail")

        # The gateway works on.
        assert await gateway.call("operator:add", 1, 2) == 3

        # The far process dies: everything that waits for it is told how.
        channel = gateway.remote_exec(crash)
        try:
            await channel.waitclose()
        except pycomnet.GatewayDied as death:
            assert death.signal == signal.SIGKILL
            assert death.exit_status is None
        else:
            raise AssertionError("it lives")
        assert not gateway.isalive()

        # There is no such interpreter.
        try:
            await group.makegateway("popen//python=no-such-python")
        except pycomnet.GatewayNotStarted as problem:
            assert "no-such-python" in str(problem)
        else:
            raise AssertionError("it started")


react(main)
