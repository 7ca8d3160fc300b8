"""The command line: its nouns and verbs, which the modules of the commands declare, joined into one parser."""

import os
from argparse import SUPPRESS, Action, ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Sequence
from typing import Any, NoReturn

from vnetctl import doctor, filters, libvirt_import, monitor, networks, offline, overview, ports, switches
from vnetctl.errors import Exit
from vnetctl.grammar import Verb
from vnetctl.text import printable

NOUNS = (
    ("network", "networks that guests attach to", networks.VERBS),
    ("switch", "bridges of their own, with uplinks", switches.VERBS),
    ("filter", "rules for what a port lets through", filters.VERBS),
    ("port", "attachments of guests to networks", ports.VERBS),
)
OTHERS = (
    offline.CONVERT,
    offline.SCHEMA,
    overview.STATUS,
    doctor.DOCTOR,
    libvirt_import.IMPORT,
    monitor.MONITOR,
    overview.RECONCILE,
)


class Parser(ArgumentParser):
    """Says what is wrong in one line, as every other error."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{**options, "allow_abbrev": False})

    def error(self, message: str) -> NoReturn:
        """End the process with the code for wrong usage."""
        self.exit(Exit.USAGE, f"error: {printable(message)} ('{self.prog} --help' shows how)\n")


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
    for noun, summary, verbs in NOUNS:
        word = _word(nouns, noun, summary, common)
        _add(word.add_subparsers(title="verbs", metavar="VERB", required=True, dest="verb"), verbs, common)
    _add(nouns, OTHERS, common)
    return top


def _common() -> ArgumentParser:
    common = ArgumentParser(add_help=False, argument_default=SUPPRESS)
    group = common.add_argument_group("anywhere on the line")
    group.add_argument("--json", action="store_true", help="print JSON, for programs")
    group.add_argument(
        "--bus", type=_bus, metavar="BUS", help="system (as without), session or a D-Bus address; also $VNETD_BUS"
    )
    return common


def _add(words: Any, verbs: Sequence[Verb], common: ArgumentParser) -> None:
    for verb in verbs:
        parser = _word(words, verb.name, verb.summary, common)
        parser.set_defaults(run=verb.run)
        for argument in verb.takes:
            argument.add_to(parser)


def _word(words: Any, word: str, summary: str, common: ArgumentParser) -> ArgumentParser:
    """A noun or a verb. The options common to all can stand after it as well."""
    description = summary[0].upper() + summary[1:] + "."
    parser: ArgumentParser = words.add_parser(word, help=summary, description=description, parents=[common])
    return parser


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
