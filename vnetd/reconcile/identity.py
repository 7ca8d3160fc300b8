"""A link is known by its index: somebody may give it another name or alias, and it is still ours."""

from vnetd.host.protocols import Kernel
from vnetd.plan.kernel import RenameLink, SetLink
from vnetd.plan.links import Link
from vnetd.reconcile.repairs import Repairs


async def recovered(
    kernel: Kernel, link: Link | None, name: str, alias: str, index: int, repairs: Repairs
) -> Link | None:
    """The link ``name`` of ours, with name and alias given back to it if they were taken.

    ``link`` is what has that name now, ``index`` is what it was last seen with (0: never). Rules go by name, so a port
    that was renamed has none until it has its name back. ``None`` if no link has that name, or one that is not ours.
    """
    if link is None and index and (renamed := await kernel.link_at(index)) and renamed.alias == alias:
        repairs.begin(f"name of {name}")
        await kernel.apply([RenameLink(renamed.name, name)])
        link = await kernel.link(name)
    if link and link.index == index and link.alias != alias:
        repairs.begin(f"alias of {name}")
        await kernel.apply([SetLink(name, alias=alias)])
        link = await kernel.link(name)
    return link if link and link.alias == alias else None
