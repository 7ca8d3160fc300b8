"""What commands take, as data: verbs, their arguments, and the arguments that several verbs share."""

from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from vnetctl.session import Command, Online, online


class Takes(Protocol):
    """Something a command takes."""

    def add_to(self, parser: ArgumentParser) -> None:
        """Have ``parser`` take it."""
        ...


@dataclass(frozen=True)
class Argument:
    """One argument, as argparse is told of it."""

    flags: tuple[str, ...]
    options: Mapping[str, Any]

    def add_to(self, parser: Any) -> None:
        """Have a parser, or a group of one, take it."""
        parser.add_argument(*self.flags, **self.options)


@dataclass(frozen=True)
class OneOf:
    """Arguments of which one can be given, or must be."""

    arguments: Sequence[Argument]
    required: bool = False

    def add_to(self, parser: ArgumentParser) -> None:
        """Have ``parser`` take one of them."""
        group = parser.add_mutually_exclusive_group(required=self.required)
        for one in self.arguments:
            one.add_to(group)


@dataclass(frozen=True)
class Verb:
    """A word of the command line that is a command."""

    name: str
    run: Command
    summary: str
    takes: tuple[Takes, ...] = ()


def verb(name: str, run: Online, summary: str, *takes: Takes, until_interrupted: bool = False) -> Verb:
    """A command that asks the daemon; ``until_interrupted``: an interrupt is how it is meant to end."""
    return Verb(name, online(run, until_interrupted=until_interrupted), summary, takes)


def argument(*flags: str, **options: Any) -> Argument:
    """As ``ArgumentParser.add_argument``."""
    return Argument(flags, options)


def flag(name: str, help: str, **options: Any) -> Argument:
    """An option that is there or not."""
    return argument(name, action="store_true", help=help, **options)


def name_of(noun: str) -> Argument:
    """Which object."""
    return argument("name", metavar=noun, help="name or UUID")


def names_of(noun: str) -> Argument:
    """Which objects, one or more."""
    return argument("names", nargs="+", metavar=noun, help="name or UUID")


def only(**values: str) -> OneOf:
    """Options that print one value a line, for scripts: named as what they print, with its key."""
    return OneOf(
        [
            argument(f"--{name}", dest="only", action="store_const", const=key, help=f"print {name}s only")
            for name, key in values.items()
        ]
    )


def format_of(*forms: str) -> Argument:
    """In which form ``show`` tells; without: as a table."""
    return argument("--format", choices=(*forms, "table"), default="table", help="a document, or a table (table)")


DOCUMENT = (
    argument("file", metavar="FILE", help="document in libvirt's XML or native JSON; - for standard input"),
    flag("--lenient", "drop elements that are not known instead of refusing"),
)
INACTIVE = flag("--inactive", "the document that is kept, not the one that runs")
EDITED = argument("--format", choices=("xml", "json"), default="xml", help="the form to edit (xml)")
DISABLE = argument("--disable", dest="enable", action="store_false", help="do not start it with the host")


def _parameter(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise ArgumentTypeError(f"{text!r} is not of the form NAME=VALUE")
    return name, value


PARAMETERS = argument(
    "--parameter",
    dest="parameters",
    action="append",
    type=_parameter,
    metavar="NAME=VALUE",
    help="value for a variable of the filter, such as IP=192.0.2.7; given again it makes a list",
)


def mac(text: str) -> str:
    """The type of a MAC address. Canonical: lower case, two digits a group."""
    groups = text.split(":")
    try:
        numbers = [int(group, 16) for group in groups if len(group) in (1, 2) and group.isalnum()]
    except ValueError:
        numbers = []
    if len(groups) != 6 or len(numbers) != 6:
        raise ArgumentTypeError(f"{text!r} is no MAC address")
    return ":".join(f"{number:02x}" for number in numbers)
