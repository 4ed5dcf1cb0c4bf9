"""A script that calls services by proxies: the example of the wish for them, as it stands."""

from pycomnet import Service, interface, method
from pycomnet import blocking as pycomnet


@interface("org.pycom.nameserver")
class Names(Service):
    """Stands for the nameserver, so that this file runs by itself."""

    @method(args={"interface": "str?", "service": "str?", "tags": "list?"}, idempotent=True)
    def locate(self, request):
        return record

    @method(args={"interface": "str?", "after": "str?"}, idempotent=True)
    def list_services(self, request):
        return [] if "after" in request.args else [record]


with pycomnet.ServiceServer() as server:
    server.add(Names())
    address = server.listen("tcp:0:interface=127.0.0.1")
    record = {"service": "calc-1", "interfaces": ["org.example.calc"], "address": address}

    pycomnet.configure(nameserver=address)

    from pycomnet.blocking.ext.proxy import locate, proxy

    ns = proxy(pycomnet.nameserver())
    ns = ns.locate(interface="org.pycom.nameserver")  # keyword arguments instead of JSON
    for service_info in ns.list_services():  # the remote method's name
        print(service_info)
        assert service_info["service"] == "calc-1"

    names = locate("org.pycom.nameserver")  # the same in one step
    assert names == ns
