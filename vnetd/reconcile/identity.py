"""A link is known by its index: somebody may give it another name or alias, and it is still ours."""

from vnetd.host.protocols import Kernel
from vnetd.plan.kernel import RenameLink, SetLink
from vnetd.plan.links import Link


async def recovered(
    kernel: Kernel, link: Link | None, name: str, alias: str, index: int
) -> tuple[Link | None, tuple[str, ...]]:
    """The link ``name`` of ours, and what had to be given back to it: its name, its alias.

    ``link`` is what has that name now, ``index`` is what it was last seen with (0: never). Rules go by name, so a port
    that was renamed has none until it has its name back. ``None`` if no link has that name, or one that is not ours.
    """
    repaired: tuple[str, ...] = ()
    if link is None and index and (renamed := await kernel.link_at(index)) and renamed.alias == alias:
        await kernel.apply([RenameLink(renamed.name, name)])
        repaired = (f"name of {name}",)
        link = await kernel.link(name)
    if link and link.index == index and link.alias != alias:
        await kernel.apply([SetLink(name, alias=alias)])
        repaired = (*repaired, f"alias of {name}")
        link = await kernel.link(name)
    return (link if link and link.alias == alias else None), repaired
