"""A proxy as an object: its names, what is said of it, and what is done with any object."""

from __future__ import annotations

import copy
import inspect
import io
import pickle
import pydoc
import rlcompleter
from contextlib import redirect_stdout
from typing import Any

from twisted.internet import defer

from pycomnet.ext import access
from pycomnet.ext.proxy import NoSuchMethod, Proxy, proxy
from pycomnet.ext.proxy.proxies import from_reference, proxied_service
from pycomnet.ext.proxy.signatures import InterfaceSignature, MethodSignature, described
from pycomnet.nameserver.service import NameService
from pycomnet.nameserver.stores.memory import MemoryStore
from pycomnet.services import default
from pycomnet.services.client.context import Context
from pycomnet.services.client.reference import ServiceReference
from pycomnet.services.interface import Service, interface, method
from pycomnet.test.ext.proxy.kit import ProxyCase, Tools
from pycomnet.test.services.network import ServiceCase

#: What debuggers, serializers and notebooks look for on any object.
PROBES = (
    *("__sentry__", "__len__", "__call__", "__bool__", "__array__", "__float__", "__index__"),
    *("__getstate_manages_dict__", "__html__", "__rich_repr__", "__wrapped__", "__aenter__"),
    *("_ipython_display_", "_ipython_canary_method_should_not_exist_", "_repr_html_"),
    *("_repr_mimebundle_", "_asdict", "_mock_methods", "_hidden", "_x"),
)


class NameTests(ProxyCase):
    """Which names are attributes, and what is done about the others."""

    def test_any_name_is_had_by_its_text(self) -> None:
        """Keywords, hyphens, dots, underscores, and names of the proxy's own."""
        for _ in range(2):
            for name in ("import", "DoSomeThingPH-v2-0", "a.b", "_hidden", "with_"):
                self.result(self.proxy[name]())
                self.assertEqual(self.tools.calls[-1], (name, {}))

    def test_names_with_an_underscore_are_no_attributes_and_call_nothing(self) -> None:
        """What programs look for on any object is an AttributeError, before first use and after."""
        for tools in (self.proxy, self.known()):
            writes, _ = self.writes()
            for name in PROBES:
                problem = self.assertRaises(AttributeError, getattr, tools, name)
                self.assertIn(f"proxy[{name!r}]", str(problem))
            self.network.deliver()
            self.assertEqual(writes, [])

    def test_unknown_name_is_an_attribute_error_once_that_is_known(self) -> None:
        """With the name that may have been meant; so ``hasattr`` says what there is."""
        self.assertTrue(hasattr(self.proxy, "ad"))
        tools = self.known()
        problem = self.assertRaises(NoSuchMethod, lambda: tools.ad)
        self.assertIsInstance(problem, AttributeError)
        self.assertIn("has no method 'ad'; did you mean 'add'?", str(problem))
        self.assertFalse(hasattr(tools, "subtract"))

    def test_proxy_is_no_sequence(self) -> None:
        """``iter``, ``in`` and a number as a name are TypeErrors, and call nothing."""
        for function in (iter, len, lambda one: "add" in one, lambda one: one[0]):
            self.assertRaises(TypeError, function, self.proxy)
        self.assertTrue(self.proxy)


class DescriptionTests(ProxyCase):
    """What is said of a proxy and its methods."""

    def test_methods_have_the_services_signatures_and_documentation(self) -> None:
        """``inspect.signature``, ``__doc__``, ``__name__`` and ``repr``, after the first use."""
        add = self.known().add
        self.assertEqual(str(inspect.signature(add)), "(a: int, b: int = ...) -> int")
        self.assertEqual(add.__doc__, "The sum of a and b.\n\nWithout b it is a.")
        self.assertEqual(add.__name__, "add")
        self.assertIn("<method add(a: int, b: int = ...) -> int of org.example.tools", repr(add))
        add = self.known().batch().add
        self.assertEqual((add.__name__, add.__qualname__), ("add", "add"))
        said = str(inspect.signature(self.proxy["import"]))
        self.assertEqual(said, "(**arguments)")
        self.assertEqual(str(inspect.signature(self.proxy.anything)), "(**arguments)")
        self.assertIn("[stream]", repr(self.proxy.ticks))

    def test_before_first_use_they_say_what_is_known(self) -> None:
        """Any arguments; and a repr without a call."""
        add = self.proxy.add
        self.assertEqual(
            str(inspect.signature(add)), "(*args: 'Any', **kwargs: 'Any') -> 'defer.Deferred[Any]'"
        )
        self.assertIn("<method add of org.example.tools at tcp:127.0.0.1:", repr(add))
        self.assertIn("args", str(inspect.signature(type(add).__call__)))
        self.assertIsInstance(inspect.signature(type(add)), inspect.Signature)
        waiting: defer.Deferred[Any] = defer.Deferred()
        self.assertEqual(repr(proxy(waiting)), "<Proxy of a service that is not known yet>")
        self.assertEqual(self.tools.calls, [])

    def test_help_shows_the_services_documentation(self) -> None:
        """Of the proxy with all methods, and of a method."""
        tools = self.known()
        self.assertIn("Tools of all kinds.", str(tools.__doc__))
        self.assertIn("A service as an object", str(Proxy.__doc__))
        for shown, part in ((tools, "    The sum of a and b."), (tools.add, "Without b it is a.")):
            out = io.StringIO()
            with redirect_stdout(out):
                pydoc.doc(shown, output=out)
            self.assertIn("add(a: int, b: int = ...) -> int", out.getvalue())
            self.assertIn(part, out.getvalue())
        self.assertEqual(self.tools.calls, [])

    def test_completion_offers_methods_and_keys(self) -> None:
        """``dir``, the REPL's completion and Jupyter's, without a call."""
        tools = self.known()
        self.assertLessEqual({"add", "ticks", "with_", "batch", "record"}, set(dir(tools)))
        self.assertNotIn("a.b", dir(tools))
        self.assertNotIn("import", dir(tools))
        completer = rlcompleter.Completer({"p": tools})
        self.assertIn("p.add(", [completer.complete("p.ad", 0)])
        self.assertIn("DoSomeThingPH-v2-0", tools._ipython_key_completions_())
        self.assertEqual(self.tools.calls, [])

    def test_terminal_is_not_commanded(self) -> None:
        """Control characters in what a service says of itself are made visible."""
        said: dict[str, Any] = {
            "doc": "\x1b[2Jdoc",
            "methods": {"a\x1b[2J": {"doc": "\x1b]0;title\x07", "args": {"\x1b[1m": "x\x1b[0m?"}}},
        }
        found = InterfaceSignature.from_map("x", said)
        (declared,) = found.methods.values()
        shown = found.help() + described(declared) + declared.doc
        self.assertNotIn("\x1b", shown)
        self.assertNotIn("\x07", shown)

    def test_description_that_is_none_is_no_error(self) -> None:
        """Whatever a service says of itself: what can't be read counts as not said."""
        whole: tuple[Any, ...] = (None, 1, [], {"methods": 1}, {"methods": {1: 2, "a": 3}})
        for said in whole:
            InterfaceSignature.from_map("x", said).help()
        for each in (None, {"args": 1}, {"args": {1: "int"}}, {"args": {"a": 7}, "doc": 1}):
            declared = MethodSignature.from_map("m", each)
            self.assertIsInstance(described(declared), str)
            declared.bind((), {"a": 1})

    def test_optional_before_required_ends_the_positions(self) -> None:
        """From there on arguments have names; the signature is a valid one."""
        declared = {"a": "int", "b": "int?", "c": "int", "d": "int?"}
        found = MethodSignature.from_map("m", {"args": declared})
        self.assertEqual(str(found.signature), "(a: int, b: int = ..., *, c: int, d: int = ...)")
        self.assertEqual(found.bind((1, 2), {"c": 3}), {"a": 1, "b": 2, "c": 3})
        self.assertRaises(TypeError, found.bind, (1, 2, 3), {})


class AnyObjectTests(ProxyCase):
    """What is done with any object is done here."""

    def test_equal_if_the_same_service(self) -> None:
        """By what they stand for and their options, with equal hashes."""
        same = proxy(self.remote)
        other = proxy(self.context.at(self.address, "org.example.other"))
        self.assertEqual(self.proxy, same)
        self.assertEqual(hash(self.proxy), hash(same))
        self.assertNotEqual(self.proxy, other)
        self.assertNotEqual(self.proxy, self.proxy.with_(timeout=1))
        self.assertNotEqual(self.proxy, "org.example.tools")
        self.assertEqual(len({self.proxy, same, other}), 2)

    def test_hash_stays_when_the_service_becomes_known(self) -> None:
        """A proxy that was in a set before is found in it afterwards."""
        waiting: defer.Deferred[Any] = defer.Deferred()
        early = proxy(waiting)
        kept = {early}
        waiting.callback(self.remote)
        self.assertIn(early, kept)
        self.assertEqual(self.result(early.add(a=1)), 1)
        self.assertIn(early, kept)

    def test_nothing_of_it_calls_the_service(self) -> None:
        """``str``, ``repr``, ``==``, ``hash``, ``copy``, ``dir``, ``bool``, ``pickle``."""
        writes, _ = self.writes()
        for function in (
            *(str, repr, hash, copy.copy, copy.deepcopy, dir, bool, pickle.dumps),
            lambda one: one == one,
            lambda one: one != 1,
        ):
            function(self.proxy)
        self.network.deliver()
        self.assertEqual(writes, [])

    def test_copy_is_of_the_same_service(self) -> None:
        """A copy shares the connection, and what is known."""
        tools = self.known()
        for each in (copy.copy(tools), copy.deepcopy([tools])[0]):
            self.assertEqual(each, tools)
            self.assertEqual(self.result(each.add(a=1)), 1)
        self.assertNotIn(("introspect", None), self.tools.calls)

    def test_pickled_as_what_it_stands_for(self) -> None:
        """The interface and the address, and nothing of the context: no credentials, no secret."""
        context = Context(self.network, credentials=access.Password("alice", "a secret"))
        context.client_id = b"secret-of-client"
        mine = proxy(context.at(self.address, "org.example.tools"))
        data = pickle.dumps(mine)
        self.assertNotIn(b"secret", data)
        self.assertNotIn(b"alice", data)
        again = pickle.loads(data)
        self.assertEqual(again, mine)
        self.assertIn("org.example.tools at tcp:127.0.0.1:", repr(again))
        bound = proxy(again, context=Context(self.network))
        self.assertEqual(self.result(bound.add(a=1)), 1)

    def test_addresses_keep_where_they_lead_alone(self) -> None:
        """Files of a machine, and whom it takes for the server, are neither sent nor taken."""
        whole = "tls:h:1:trustRoots=/etc/mine:hostname=other:timeout=3"
        for place in ({"address": whole}, {"nameserver": whole}):
            sent = ServiceReference("i", **place).as_list()
            self.assertIn("tls:h:1:timeout=3", sent)
            given = [whole if each == "tls:h:1:timeout=3" else each for each in sent]
            self.assertEqual(ServiceReference.from_list(given).as_list(), sent)
            self.assertNotIn("mine", repr(ServiceReference.from_list(given)))

    def test_unpickled_proxy_calls_without_credentials(self) -> None:
        """By itself it has a context of its own, and not the program's, which has credentials."""
        guest = Context(self.network)
        self.patch(default, "guest_context", lambda: guest)
        again = pickle.loads(pickle.dumps(self.proxy))
        self.assertEqual(self.result(again.add(a=1)), 1)
        service = proxied_service(again).service
        assert service is not None
        self.assertIs(service.context, guest)

    def test_proxy_that_is_not_known_yet_is_not_pickled(self) -> None:
        """The error says what to do."""
        waiting: defer.Deferred[Any] = defer.Deferred()
        problem = self.assertRaises(ValueError, pickle.dumps, proxy(waiting))
        self.assertIn("wait for its service first", str(problem))

    def test_reference_that_is_none_is_refused(self) -> None:
        """What arrived in its place is no proxy."""
        for value in (None, [], ["i", None, None, None], ["i", 1, None, None], ["i", "a", "b", 0]):
            self.assertRaises(ValueError, from_reference, value)
        self.assertRaises(ValueError, from_reference, [None, None, "tcp:h:1", None])
        self.assertRaises(ValueError, from_reference, ["i", "tcp:h", None, None])


class ArgumentTests(ProxyCase):
    """A proxy as an argument and as a result."""

    def test_proxy_arrives_as_a_proxy(self) -> None:
        """The service calls it with a context of its own."""
        self.assertEqual(self.result(self.proxy.listener(to=self.proxy)), {"text": "hello"})
        self.assertIn(("say", {"text": "hello"}), self.tools.calls)
        self.assertEqual(self.result(self.proxy.say(text="x", name=None))["name"], None)
        back = self.result(self.proxy.anything(one=[self.proxy]))["one"][0]
        self.assertIs(type(back), Proxy)
        self.assertEqual(back, self.proxy)

    def test_proxy_that_is_not_known_yet_is_not_sent(self) -> None:
        """The error names what can't be sent, and why."""
        waiting: defer.Deferred[Any] = defer.Deferred()
        problem = self.failure(self.known().anything(one=proxy(waiting)))
        self.assertIn("wait for its service first", str(problem))


@interface("org.example.one")
@interface("org.example.two")
class Two(Service):
    """With two interfaces."""

    @method(args={})
    def where(self, request: Any) -> str:
        """The interface that was called."""
        return str(request.interface)


class NameserverTests(ServiceCase):
    """A nameserver's ``locate``, through a proxy."""

    def setUp(self) -> None:
        super().setUp()
        names = self.make_server()
        self.successResultOf(names.add(NameService(MemoryStore(), self.network)))
        self.names = self.successResultOf(names.listen("tcp:0:interface=127.0.0.1"))
        for service in (Tools(), Two()):
            self.successResultOf(self.server.add(service))
        self.context = Context(self.network, nameserver=self.names)
        self.proxy = proxy(self.context.nameserver())
        for name, found in (
            ("tools-1", ["org.example.tools"]),
            ("two", ["org.example.one", "org.example.two"]),
        ):
            self.result(
                self.proxy.register(
                    service=name, interfaces=found, address=self.address, ttl=600, tags=[name]
                )
            )

    def test_seeds_example(self) -> None:
        """The nameserver is located by itself, and its methods are called."""
        found = self.result(self.proxy.locate(interface="org.pycom.nameserver"))
        self.assertEqual(found.record["address"], self.names)
        listed = self.result(found.list_services())
        self.assertEqual([each["service"] for each in listed], ["tools-1", "two"])

    def test_located_service_is_a_proxy_with_its_record(self) -> None:
        """By its interface any instance, by its name or tags only that service."""
        for wanted, named in (
            ({"interface": "org.example.tools"}, None),
            ({"service": "tools-1"}, "tools-1"),
            ({"interface": "org.example.tools", "tags": ["tools-1"]}, "tools-1"),
        ):
            tools = self.result(self.proxy.locate(**wanted))
            self.assertEqual(tools.record["service"], "tools-1")
            self.assertEqual(tools.record["address"], self.address)
            self.assertEqual(self.result(tools.add(a=1, b=2)), 3)
            reference = proxied_service(tools).reference
            assert reference is not None
            self.assertEqual((reference.nameserver, reference.service), (self.names, named))

    def test_one_of_several_interfaces_has_to_be_named(self) -> None:
        """With it, that one is called; without, the call says that it is needed."""
        two = self.result(self.proxy.locate(interface="org.example.two", service="two"))
        self.assertEqual(self.result(two.where()), "org.example.two")
        any_of_both = self.result(self.proxy.locate(service="two"))
        problem = self.failure(any_of_both.where())
        self.assertIn("name the interface that is meant", str(problem))

    def test_what_is_not_there_is_the_nameservers_error(self) -> None:
        """The error is that of ``invoke``; arguments are checked here."""
        self.failure(self.proxy.locate(interface="org.example.none"), LookupError)
        self.failure(self.proxy.locate(name="x"), TypeError)

    def test_nameserver_of_another_context_is_asked_itself(self) -> None:
        """A context without a nameserver, connected to one: what it locates is found again."""
        context = Context(self.network)
        names = proxy(context.at(self.names, "org.pycom.nameserver"))
        tools = self.result(names.locate(interface="org.example.tools"))
        self.network.cut()
        self.assertEqual(self.result(tools.add(a=1, b=2)), 3)
