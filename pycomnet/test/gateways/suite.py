"""The one suite that gateways of every transport pass.

A transport's test module has, for its spec::

    globals().update(cases("Popen", "popen", __name__))
"""

from __future__ import annotations

from pycomnet.test.gateways.case import GatewayCase
from pycomnet.test.gateways.suite_channels import Asking, Channels
from pycomnet.test.gateways.suite_code import Code, ExecutionModels
from pycomnet.test.gateways.suite_endings import Deaths, Endings, Groups
from pycomnet.test.gateways.suite_errors import Errors
from pycomnet.test.gateways.suite_flow import FlowControl, Streams, Threads
from pycomnet.test.gateways.suite_output import Printing
from pycomnet.test.gateways.suite_values import Values

SUITE: tuple[type[GatewayCase], ...] = (
    Code,
    ExecutionModels,
    Values,
    Errors,
    Channels,
    Asking,
    FlowControl,
    Streams,
    Threads,
    Printing,
    Deaths,
    Endings,
    Groups,
)


def cases(prefix: str, spec: str, module: str) -> dict[str, type[GatewayCase]]:
    """The suite's test cases for one kind of gateway.

    :param prefix: what their names begin with.
    :param spec: what the gateways are made from.
    :param module: the name of the module that they are put in.
    """
    made = {}
    for case in SUITE:
        name = prefix + case.__name__
        made[name] = type(
            name, (case,), {"spec": spec, "__module__": module, "__doc__": case.__doc__}
        )
    return made
