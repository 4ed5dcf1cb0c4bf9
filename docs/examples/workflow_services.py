"""Three services, each with one method: what the workflow's example calls."""

import pycomnet


@pycomnet.interface("demo.interface.1")
class First(pycomnet.Service):
    @pycomnet.method()
    def double(self, request):
        return request.args * 2


@pycomnet.interface("demo.interface.2")
class Second(pycomnet.Service):
    @pycomnet.method(idempotent=True)
    async def increase(self, request):
        return request.args + 1


@pycomnet.interface("demo.interface.3")
class Third(pycomnet.Service):
    @pycomnet.method()
    def describe(self, request):
        return {"result": request.args}
