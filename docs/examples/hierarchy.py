"""Gateways that are started from others; here all on this machine."""

from pycomnet.blocking import Group


def processes():
    import os

    return os.getpid(), os.getppid()


if __name__ == "__main__":
    with Group() as group:
        # "ssh=bastion.example//id=bastion" and "ssh=inner//via=bastion//id=inner", for you
        bastion = group.makegateway("popen//id=bastion")
        inner = group.makegateway("popen//via=bastion//id=inner")
        beside = group.makegateway("popen//via=inner")  # one more process there
        for gateway in group:
            print(gateway.id, gateway.call(processes))

        inner.exit()  # what is behind it goes, too
        beside.join()
        assert bastion.call("operator:add", 1, 2) == 3
        assert not beside.isalive()
