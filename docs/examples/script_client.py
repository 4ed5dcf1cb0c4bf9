"""A script that calls a service, without Deferreds: the client of the service's description."""

import contextlib
import io

from pycomnet import Binary, Service, ServiceNotFound, interface, method
from pycomnet import blocking as pycomnet


@interface("org.example.report")
class Report(Service):
    """What the script calls; it could be anywhere."""

    @method("pages")
    def pages(self, request):
        out1 = io.BytesIO()
        out1.write(b"page one")
        out2 = io.BytesIO()
        out2.write(b"page two")
        return {"pages": 2}, Binary(out1), Binary(out2)


@interface("org.pycom.nameserver")
class Names(Service):
    """Stands for the nameserver, so that this file runs by itself."""

    @method(idempotent=True)
    def list_services(self, request):
        record = {"service": "report", "interfaces": ["org.example.report"], "address": address}
        return [] if "after" in request.args else [record]


with pycomnet.ServiceServer() as server:
    server.add(Report())
    server.add(Names())
    address = server.listen("tcp:0:interface=127.0.0.1")

    pycomnet.configure(nameserver=address)

    service = pycomnet.locate("org.example.report")
    result, files = service.invoke("pages", {}, with_binary=True)
    assert result == {"pages": 2}
    assert [file_obj.read() for file_obj in files] == [b"page one", b"page two"]

    with contextlib.suppress(ServiceNotFound):
        pycomnet.locate("org.example.other")
