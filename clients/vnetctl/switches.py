"""``vnetctl switch …``."""

from argparse import Namespace

from vnetctl.grammar import DISABLE, INACTIVE, argument, flag, format_of, name_of, names_of, only, verb
from vnetctl.objects import SWITCH, options_of, until
from vnetctl.session import Session, rows

LIST = (
    ("Name", "name"),
    ("State", "state"),
    ("Bridge", "bridge"),
    ("Uplinks", "uplinks"),
    ("Autostart", "autostart"),
    ("Persistent", "persistent"),
)
SHOW = (
    ("Name", "name"),
    ("UUID", "uuid"),
    ("State", "state"),
    ("Active", "active"),
    ("Persistent", "persistent"),
    ("Autostart", "autostart"),
    ("Unconfirmed", "unconfirmed"),
    ("Bridge", "bridge"),
    ("Uplinks", "uplinks"),
    ("Ports", "devices"),
    ("Healed", "healed_count"),
    ("Problems", "problems"),
)


async def list_(session: Session, arguments: Namespace) -> None:
    """All switches."""
    session.output.listing(LIST, await rows(session, "ListSwitches"), only=arguments.only)


async def start(session: Session, arguments: Namespace) -> None:
    """Bring switches up."""
    done, given = f"started{until(arguments)}", options_of(arguments)
    await SWITCH.call_each(session, arguments.names, "Start", done, "a{sv}", given)


ONE, SOME = name_of("SWITCH"), names_of("SWITCH")
DOCUMENT = (
    argument("file", metavar="FILE", help="document in native JSON; - for standard input"),
    flag("--lenient", "drop fields that are not known instead of refusing"),
)
CONFIRM = argument("--confirm", type=int, metavar="SECONDS", help="take it back after this time unless it is confirmed")
VERBS = (
    verb("list", list_, "list switches", only(name="name", uuid="uuid")),
    verb(
        "show", SWITCH.showing(SHOW), "show one switch: what it is now, or its document",
        ONE, format_of("json"), INACTIVE,
    ),
    verb(
        "define", SWITCH.giving("Define", "defined"),
        "keep a switch's document, new or changed; one that runs is changed at once", *DOCUMENT, CONFIRM,
    ),
    verb(
        "create", SWITCH.giving("Create", "created"), "start a switch that is forgotten when it stops",
        *DOCUMENT, CONFIRM,
    ),
    verb("plan", SWITCH.plan, "show what defining and starting a document would do; changes nothing", *DOCUMENT),
    verb("start", start, "bring switches up", SOME, CONFIRM),
    verb("stop", SWITCH.acting("Stop", "stopped"), "take switches down and put their uplinks back", SOME),
    verb(
        "undefine", SWITCH.acting("Undefine", "undefined"),
        "forget switches; what is active runs on until it stops", SOME,
    ),
    verb("confirm", SWITCH.acting("Confirm", "confirmed"), "keep changes that would be taken back otherwise", SOME),
    verb("edit", SWITCH.edit, "change a switch's document in $VISUAL or $EDITOR", ONE, CONFIRM),
    verb("autostart", SWITCH.autostart, "start a switch with the host", ONE, DISABLE),
)  # fmt: skip
