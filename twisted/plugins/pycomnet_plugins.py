"""The twistd plugins of pycomnet: one ``ServiceMaker`` line for each module of ``pycomnet.tap``.

Twisted imports this module whenever anything asks for plugins, also plugins that are not ours. So
it holds nothing but such lines (the service maker names its module and does not import it), and
there is no ``__init__.py`` beside it: with one, Twisted would not look here at all.
"""

from twisted.application.service import ServiceMaker

# Sorted by name.
pycomnet_factory = ServiceMaker(
    "pycomnet factory",
    "pycomnet.tap.factory",
    "Keep gateways for the programs of this user: they outlive the programs.",
    "pycomnet-factory",
)

pycomnet_gateway = ServiceMaker(
    "pycomnet gateway",
    "pycomnet.tap.gateway",
    "Run Python in processes for programs that connect to a socket.",
    "pycomnet-gateway",
)

pycomnet_http_exec = ServiceMaker(
    "pycomnet http-exec",
    "pycomnet.tap.http_exec",
    "Run Python in subprocesses for clients that come through HTTP.",
    "pycomnet-http-exec",
)

pycomnet_nameserver = ServiceMaker(
    "pycomnet nameserver",
    "pycomnet.tap.nameserver",
    "Run the nameserver: who offers which interface, and where.",
    "pycomnet-nameserver",
)

pycomnet_service = ServiceMaker(
    "pycomnet service",
    "pycomnet.tap.service",
    "Run the services of some modules, registered in a nameserver.",
    "pycomnet-service",
)

pycomnet_workflow = ServiceMaker(
    "pycomnet workflow",
    "pycomnet.tap.workflow",
    "Run chains of calls to services, and finish them whatever dies meanwhile.",
    "pycomnet-workflow",
)
