"""Binary data that goes with a result: files by their paths, and what was written in memory."""

import io

import pycomnet


@pycomnet.interface("org.example.paths")
class Paths(pycomnet.Service):
    """Answers with a file."""

    @pycomnet.method("method")
    def method(self, request):
        for file_obj in request.files:
            with open(file_obj.name, "rb") as again:  # it has a name, as a NamedTemporaryFile does
                assert again.read() == file_obj.read() == b"sent along"
        return {}, pycomnet.Binary("/etc/passwd")


@pycomnet.interface("org.example.memory")
class Memory(pycomnet.Service):
    """Answers with what it has just written."""

    @pycomnet.method("method")
    def method(self, request):
        out1 = io.BytesIO()
        out1.write(b"first")
        out2 = io.BytesIO()
        out2.write(b"second")
        return {}, pycomnet.Binary(out1), pycomnet.Binary(out2)


def client(address):
    """What a script does that calls them."""
    from pycomnet import Binary
    from pycomnet import blocking as pycomnet

    service = pycomnet.connect(address, "org.example.paths")
    sent = Binary(b"sent along")
    result, files = service.invoke("method", {}, attachments=[sent], with_binary=True)
    for file_obj in files:
        with open("/etc/passwd", "rb") as passwd, open(file_obj.name, "rb") as again:
            assert again.read() == file_obj.read() == passwd.read()
    assert (result, len(files)) == ({}, 1)

    service = pycomnet.connect(address, "org.example.memory")
    result, files = service.invoke("method", {}, with_binary=True)
    assert (result, [file_obj.read() for file_obj in files]) == ({}, [b"first", b"second"])


if __name__ == "__main__":
    from pycomnet import blocking

    with blocking.ServiceServer() as server:
        server.add(Paths())
        server.add(Memory())
        client(server.listen("tcp:0:interface=127.0.0.1"))
