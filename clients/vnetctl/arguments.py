"""The command line: nouns, verbs and options."""

import os
from argparse import SUPPRESS, Action, ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Sequence
from typing import Any, NoReturn

from vnetctl import doctor, filters, libvirt_import, monitor, networks, offline, overview, ports, switches
from vnetctl.errors import Exit
from vnetctl.session import Command, Online, online
from vnetctl.text import printable

SECTIONS = (
    "bridge", "domain", "ip", "ip-dhcp-host", "ip-dhcp-range", "forward", "forward-interface", "forward-pf",
    "portgroup", "dns-host", "dns-txt", "dns-srv",
)  # fmt: skip
COMMANDS = ("add", "add-first", "add-last", "modify", "delete")


class Parser(ArgumentParser):
    """Says what is wrong in one line, as every other error."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{**options, "allow_abbrev": False})

    def error(self, message: str) -> NoReturn:
        """End the process with the code for wrong usage."""
        self.exit(Exit.USAGE, f"error: {printable(message)} ('{self.prog} --help' shows how)\n")


class Verbs:
    """Adds the verbs of a noun. Options common to all can stand at any place."""

    def __init__(self, nouns: Any, noun: str, summary: str, common: ArgumentParser) -> None:
        parser = nouns.add_parser(noun, help=summary, description=_sentence(summary), parents=[common])
        self._verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True, dest="verb")
        self._common = common

    def add(self, verb: str, run: Online, summary: str) -> ArgumentParser:
        """A verb; its further arguments are the caller's to add."""
        return _command(self._verbs, verb, online(run), summary, self._common)


def _command(commands: Any, name: str, run: Command, summary: str, common: ArgumentParser) -> ArgumentParser:
    parser: ArgumentParser = commands.add_parser(name, help=summary, description=_sentence(summary), parents=[common])
    parser.set_defaults(run=run)
    return parser


def _sentence(summary: str) -> str:
    return summary[0].upper() + summary[1:] + "."


def parse(arguments: Sequence[str]) -> Namespace:
    """What a command line asks for: ``run`` is the command. Ends the process if it is wrong or asks for help."""
    # Not as defaults of the parser: those would be set again by every verb, after an option before the noun.
    bus = os.environ.get("VNETD_BUS") or "system"
    parsed = parser().parse_args(arguments, Namespace(json=False, bus=bus))
    try:
        parsed.bus = _bus(parsed.bus)
    except ArgumentTypeError as error:
        parser().error(f"VNETD_BUS: {error}")
    return parsed


def parser() -> Parser:
    """The whole command line."""
    common = _common()
    top = Parser(
        prog="vnetctl",
        description="Virtual networks, their ports and filters, as vnetd keeps them.",
        epilog="Exit status: 0 done, 1 failed, 2 wrong usage, 3 not found, 4 denied, 5 daemon unreachable.",
        parents=[common],
    )
    top.add_argument("--version", action=_Version, help="show the version and exit")
    nouns = top.add_subparsers(title="nouns", metavar="NOUN", required=True, dest="noun")
    _network(Verbs(nouns, "network", "networks that guests attach to", common))
    _switch(Verbs(nouns, "switch", "bridges of their own, with uplinks", common))
    _filter(Verbs(nouns, "filter", "rules for what a port lets through", common))
    _port(Verbs(nouns, "port", "attachments of guests to networks", common))
    _others(nouns, common)
    return top


def _common() -> ArgumentParser:
    common = ArgumentParser(add_help=False, argument_default=SUPPRESS)
    group = common.add_argument_group("anywhere on the line")
    group.add_argument("--json", action="store_true", help="print JSON, for programs")
    group.add_argument(
        "--bus", type=_bus, metavar="BUS", help="system (as without), session or a D-Bus address; also $VNETD_BUS"
    )
    return common


def _network(verbs: Verbs) -> None:
    _list_of_networks(verbs)
    show = verbs.add("show", networks.show, "show one network: what it is now, or its document")
    _name(show, "NETWORK")
    _format(show, "table")
    show.add_argument("--inactive", action="store_true", help="the document that is kept, not the one that runs")
    for verb, run, summary in (
        ("define", networks.define, "keep a network's document, new or changed; does not start it"),
        ("create", networks.create, "start a network that is forgotten when it stops"),
        ("plan", networks.plan, "show what defining and starting a document would do; changes nothing"),
    ):
        _file(verbs.add(verb, run, summary))
    _names(verbs.add("start", networks.start, "bring networks up"), "NETWORK")
    stop = verbs.add("stop", networks.stop, "take networks down")
    which = stop.add_mutually_exclusive_group(required=True)
    which.add_argument("--all", action="store_true", help="all that are active")
    which.add_argument("names", nargs="*", metavar="NETWORK", default=[], help="name or UUID")
    undefine = verbs.add("undefine", networks.undefine, "forget networks; what is active runs on until it stops")
    _names(undefine, "NETWORK")
    edit = verbs.add("edit", networks.edit, "change a network's document in $VISUAL or $EDITOR")
    _name(edit, "NETWORK")
    edit.add_argument("--format", choices=("xml", "json"), default="xml", help="the form to edit (xml)")
    _update(verbs)
    autostart = verbs.add("autostart", networks.autostart, "start a network with the host")
    _name(autostart, "NETWORK")
    autostart.add_argument("--disable", dest="enable", action="store_false", help="do not start it with the host")
    leases = verbs.add("leases", networks.leases, "list the addresses guests have from DHCP")
    _name(leases, "NETWORK")
    leases.add_argument("mac", nargs="?", type=_mac, metavar="MAC", help="only of this guest")


def _list_of_networks(verbs: Verbs) -> None:
    listed = verbs.add("list", networks.list_, "list networks")
    for yes, no, key in (
        ("--active", "--inactive", "active"),
        ("--persistent", "--transient", "persistent"),
        ("--autostart", "--no-autostart", "autostart"),
    ):
        pair = listed.add_mutually_exclusive_group()
        pair.add_argument(yes, dest=key, action="store_true", default=None, help=f"only {yes.lstrip('-')} ones")
        pair.add_argument(no, dest=key, action="store_false", default=None, help=f"only {no.lstrip('-')} ones")
    _only(listed, name="name", uuid="uuid")


def _update(verbs: Verbs) -> None:
    update = verbs.add("update", networks.update, "change one section of a network in place")
    _name(update, "NETWORK")
    update.add_argument("command", choices=COMMANDS, metavar="COMMAND", help=", ".join(COMMANDS))
    update.add_argument("section", choices=SECTIONS, metavar="SECTION", help=", ".join(SECTIONS))
    update.add_argument("element", metavar="XML", help="the element: itself if it begins with '<', else FILE or -")
    update.add_argument("--parent-index", type=int, metavar="N", help="which <ip> of the network a DHCP entry is in")
    update.add_argument("--live", action="store_true", help="change what runs")
    update.add_argument("--config", action="store_true", help="change what is kept")


def _switch(verbs: Verbs) -> None:
    _only(verbs.add("list", switches.list_, "list switches"), name="name", uuid="uuid")
    show = verbs.add("show", switches.show, "show one switch: what it is now, or its document")
    _name(show, "SWITCH")
    show.add_argument("--format", choices=("json", "table"), default="table", help="a document, or a table (table)")
    show.add_argument("--inactive", action="store_true", help="the document that is kept, not the one that runs")
    for verb, run, summary in (
        ("define", switches.define, "keep a switch's document, new or changed; one that runs is changed at once"),
        ("create", switches.create, "start a switch that is forgotten when it stops"),
    ):
        given = verbs.add(verb, run, summary)
        given.add_argument("file", metavar="FILE", help="document in native JSON; - for standard input")
        given.add_argument("--lenient", action="store_true", help="drop fields that are not known instead of refusing")
        _confirm(given)
    start = verbs.add("start", switches.start, "bring switches up")
    _names(start, "SWITCH")
    _confirm(start)
    for verb, run, summary in (
        ("stop", switches.stop, "take switches down and put their uplinks back"),
        ("undefine", switches.undefine, "forget switches; what is active runs on until it stops"),
        ("confirm", switches.confirm, "keep changes that would be taken back otherwise"),
    ):
        _names(verbs.add(verb, run, summary), "SWITCH")
    edit = verbs.add("edit", switches.edit, "change a switch's document in $VISUAL or $EDITOR")
    _name(edit, "SWITCH")
    _confirm(edit)
    autostart = verbs.add("autostart", switches.autostart, "start a switch with the host")
    _name(autostart, "SWITCH")
    autostart.add_argument("--disable", dest="enable", action="store_false", help="do not start it with the host")


def _confirm(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--confirm", type=int, metavar="SECONDS", help="take it back after this time unless it is confirmed"
    )


def _filter(verbs: Verbs) -> None:
    _only(verbs.add("list", filters.list_, "list filters"), name="name", uuid="uuid")
    show = verbs.add("show", filters.show, "show one filter: its document, what uses it, or its rules on a device")
    _name(show, "FILTER")
    _format(show, "table")
    show.add_argument(
        "--bound", action="store_true", help="FILTER is a port or device: the rules in force there, counted"
    )
    _file(verbs.add("define", filters.define, "keep a filter's document; what uses it follows at once"))
    _names(verbs.add("undefine", filters.undefine, "forget filters that nothing uses"), "FILTER")
    edit = verbs.add("edit", filters.edit, "change a filter's document in $VISUAL or $EDITOR")
    _name(edit, "FILTER")
    edit.add_argument("--format", choices=("xml", "json"), default="xml", help="the form to edit (xml)")
    bind = verbs.add("bind", filters.bind, "put a filter in force on a port, or on a device vnetd did not make")
    bind.add_argument("device", metavar="DEVICE", help="the device, or a port's UUID")
    bind.add_argument("filter", metavar="FILTER", help="name or UUID")
    _parameters(bind)
    unbind = verbs.add("unbind", filters.unbind, "take the filter off ports or devices")
    unbind.add_argument("devices", nargs="+", metavar="DEVICE", help="the device, or the UUID of a port or binding")
    bindings = verbs.add("bindings", filters.bindings, "list filters in force on devices vnetd did not make")
    _only(bindings, device="device", uuid="uuid")


def _port(verbs: Verbs) -> None:
    listed = verbs.add("list", ports.list_, "list ports")
    listed.add_argument("--network", metavar="NETWORK", help="only of this network")
    _only(listed, device="device", uuid="uuid")
    show = verbs.add("show", ports.show, "show one port: what it is now, or its document")
    show.add_argument("port", metavar="PORT", help="UUID or device")
    _format(show, "table")
    _attach(verbs.add("attach", ports.attach, "attach a guest to a network"))
    link = verbs.add("link", ports.link, "plug the guest's cable in or out")
    link.add_argument("port", metavar="PORT", help="UUID or device")
    link.add_argument("state", choices=("up", "down"), help="in or out")
    addresses = verbs.add("addresses", ports.addresses, "list a guest's addresses, their source and age in seconds")
    addresses.add_argument("port", metavar="PORT", help="UUID or device")
    move = verbs.add("move", ports.move, "plug a port into another network, or give it another port group")
    move.add_argument("port", metavar="PORT", help="UUID or device")
    move.add_argument("network", nargs="?", metavar="NETWORK", help="name or UUID (where it is)")
    move.add_argument("--portgroup", metavar="NAME", help="the network's port group (its default one)")
    limit = verbs.add("limit", ports.limit, "limit a port's bandwidth; 0 takes a limit away")
    limit.add_argument("port", metavar="PORT", help="UUID or device")
    _limits(limit)
    isolate = verbs.add("isolate", ports.isolate, "keep a port from other isolated ones, or no longer")
    isolate.add_argument("port", metavar="PORT", help="UUID or device")
    isolate.add_argument("state", choices=("on", "off"), help="whether it is isolated")
    detach = verbs.add("detach", ports.detach, "end attachments; a device that vnetd made goes with it")
    detach.add_argument("ports", nargs="+", metavar="PORT", help="UUID or device")


def _attach(attach: ArgumentParser) -> None:
    attach.add_argument("network", metavar="NETWORK", help="name or UUID")
    kind = attach.add_mutually_exclusive_group(required=True)
    kind.add_argument("--veth", action="store_true", help="a pair of devices, one end in the guest's network namespace")
    kind.add_argument("--macvlan", action="store_true", help="a device in the guest's namespace on one of the host's")
    kind.add_argument("--ipvlan", action="store_true", help="the same with the MAC address of the host's device")
    kind.add_argument("--tap", metavar="NAME", help="a tap that stays when nobody has it open")
    kind.add_argument("--device", metavar="DEV", help="a device that exists")
    kind.add_argument("--macvtap", metavar="NAME", help="a macvtap that stays when nobody has it open")
    kind.add_argument("--hostdev", action="store_true", help="a virtual function of a network card, handed out whole")
    kind.add_argument("--passt", action="store_true", help="a passt process with a socket for the guest")
    attach.add_argument(
        "--netns", metavar="NAME|PID|PATH", help="the network namespace for --veth, --macvlan, --ipvlan"
    )
    attach.add_argument("--guest-device", metavar="NAME", help="with --netns: name of the guest's end (eth0)")
    attach.add_argument("--lower", metavar="DEV", help="with --macvlan, --ipvlan: what it lies on (the uplink)")
    attach.add_argument("--host-device", metavar="NAME", help="with --veth: name of the host's end (chosen)")
    attach.add_argument("--address", action="append", metavar="ADDRESS/PREFIX", help="with --netns: the guest's")
    attach.add_argument("--gateway", action="append", metavar="ADDRESS", help="with --netns: its default route")
    attach.add_argument(
        "--owner", metavar="USER", help="with --tap, --macvtap: who may open it (you); with --passt: who runs it"
    )
    attach.add_argument("--group", metavar="GROUP", help="with --tap, --macvtap: whose members may open it")
    attach.add_argument(
        "--queues", type=int, metavar="N", help="with --tap: more than 1 if several can be open at once"
    )
    attach.add_argument(
        "--forward", action="append", metavar="PROTOCOL:[ADDRESS:]PORT[:PORT]", help="with --passt: a port of the host"
    )
    attach.add_argument("--mac", type=_mac, metavar="MAC", help="the guest's MAC address (made up)")
    attach.add_argument("--mtu", type=int, metavar="BYTES", help="largest packet (the network's)")
    attach.add_argument("--portgroup", metavar="NAME", help="the network's port group (its default one)")
    attach.add_argument(
        "--vlan",
        action="append",
        metavar="ID[:untagged|:tagged]",
        help="VLAN of the port, on a bridge that filters; given again it makes a trunk, :… marks its native one",
    )
    attach.add_argument("--isolated", action="store_true", default=None, help="keep it from other isolated ports")
    attach.add_argument(
        "--duplicate-mac", action="store_true", default=None, help="let it share the MAC of another port"
    )
    attach.add_argument("--unplugged", action="store_true", default=None, help="leave the guest's cable unplugged")
    attach.add_argument("--filter", metavar="FILTER", help="filter in force from the first packet on")
    _parameters(attach)
    _limits(attach)


def _limits(command: ArgumentParser) -> None:
    shape = "AVERAGE[,PEAK[,BURST[,FLOOR]]]"
    command.add_argument("--inbound", metavar=shape, help="of what the guest receives: KiB/s, the burst in KiB")
    command.add_argument("--outbound", metavar="AVERAGE[,PEAK[,BURST]]", help="the same of what it sends")


def _others(nouns: Any, common: ArgumentParser) -> None:
    convert = _command(nouns, "convert", offline.convert, "check a document and print it in either form", common)
    _file(convert)
    convert.add_argument("--to", choices=("xml", "json"), required=True, help="libvirt's XML or native JSON")
    schema = _command(nouns, "schema", offline.schema, "print the JSON Schema of native documents", common)
    schema.add_argument("kind", choices=offline.KINDS, metavar="KIND", help=", ".join(offline.KINDS))
    status = _command(nouns, "status", online(overview.status), "show the daemon and what it keeps at a glance", common)
    status.add_argument("--capabilities", action="store_true", help="show instead what this host can do, and why not")
    _doctor(_command(nouns, "doctor", online(doctor.doctor), "find what keeps packets of a guest from passing", common))
    importing = _command(
        nouns, "import-libvirt", online(libvirt_import.run), "take over networks, filters and leases of libvirt", common
    )
    importing.add_argument(
        "directory", metavar="DIR", nargs="?", default="/", help="root of the system libvirt keeps its files on (/)"
    )
    importing.add_argument("--dry-run", action="store_true", help="say what would be taken, and take nothing")
    watch = online(monitor.monitor, until_interrupted=True)
    _command(nouns, "monitor", watch, "show what happens, as it happens", common)
    _command(nouns, "reconcile", online(overview.reconcile), "compare everything with the host now, and repair", common)


def _doctor(doctor: ArgumentParser) -> None:
    doctor.add_argument("target", nargs="?", metavar="TARGET", help="port, device with a filter, or network (all)")
    end = doctor.add_mutually_exclusive_group()
    end.add_argument("--to", metavar="ADDRESS", help="whom the guest wants to reach")
    end.add_argument("--from", dest="from_", metavar="ADDRESS", help="who wants to reach the guest")
    kind = doctor.add_mutually_exclusive_group()
    kind.add_argument("--tcp", type=int, metavar="PORT", help="by TCP at that port")
    kind.add_argument("--udp", type=int, metavar="PORT", help="by UDP at that port")
    kind.add_argument("--icmp", action="store_true", help="by ping (as without)")


def _name(parser: ArgumentParser, metavar: str) -> None:
    parser.add_argument("name", metavar=metavar, help="name or UUID")


def _names(parser: ArgumentParser, metavar: str) -> None:
    parser.add_argument("names", nargs="+", metavar=metavar, help="name or UUID")


def _file(parser: ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="document in libvirt's XML or native JSON; - for standard input")
    parser.add_argument("--lenient", action="store_true", help="drop elements that are not known instead of refusing")


def _format(parser: ArgumentParser, default: str) -> None:
    choices = ("xml", "json", "table")
    parser.add_argument("--format", choices=choices, default=default, help=f"a document, or a table ({default})")


def _only(parser: ArgumentParser, **options: str) -> None:
    """Options that print one value a line, for scripts; named as what they print."""
    parser.set_defaults(only=None)
    group = parser.add_mutually_exclusive_group()
    for option, key in options.items():
        group.add_argument(f"--{option}", dest="only", action="store_const", const=key, help=f"print {option}s only")


def _parameters(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--parameter",
        dest="parameters",
        action="append",
        type=_parameter,
        metavar="NAME=VALUE",
        help="value for a variable of the filter, such as IP=192.0.2.7; given again it makes a list",
    )


def _parameter(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise ArgumentTypeError(f"{text!r} is not of the form NAME=VALUE")
    return name, value


def _mac(text: str) -> str:
    """Canonical: lower case, two digits a group."""
    groups = text.split(":")
    try:
        numbers = [int(group, 16) for group in groups if len(group) in (1, 2) and group.isalnum()]
    except ValueError:
        numbers = []
    if len(groups) != 6 or len(numbers) != 6:
        raise ArgumentTypeError(f"{text!r} is no MAC address")
    return ":".join(f"{number:02x}" for number in numbers)


def _bus(text: str) -> str:
    if text in {"system", "session"} or ":" in text:
        return text
    raise ArgumentTypeError(f"{text!r} is neither system nor session nor a D-Bus address")


class _Version(Action):
    def __init__(self, option_strings: Sequence[str], dest: str, **kwargs: Any) -> None:
        super().__init__(option_strings, SUPPRESS, nargs=0, help=kwargs.get("help"))

    def __call__(self, parser: ArgumentParser, *_: object) -> None:
        from vnetd import __version__

        print(f"vnetctl {__version__}")
        parser.exit()
