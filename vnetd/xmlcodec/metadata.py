"""Metadata of other programs in a network: foreign elements, kept whole. Each is stored as text of its own."""

from collections.abc import Iterable, Iterator

from vnetd.model.errors import Invalid
from vnetd.model.network import Network
from vnetd.xmlcodec.network_native import NATIVE, native_element
from vnetd.xmlcodec.reader import Element
from vnetd.xmlcodec.xml import Node, Writer, foreign, parse_xml


def read_metadata(metadata: Element) -> list[str]:
    """The children of <metadata> that have a namespace, the first of each; the others go, as with libvirt."""
    metadata.ignore_content()
    kept: dict[str, str] = {}
    for node in metadata.node.children:
        if node.namespace == NATIVE:
            continue  # vnetd's own, read by itself
        if not node.namespace:
            metadata.warn(f"<{node.tag}> has no namespace: dropped")
        elif node.namespace in kept:
            metadata.warn(f"<{node.tag}> is the second of namespace {node.namespace!r}: dropped")
        else:
            kept[node.namespace] = _standalone(node)
    return list(kept.values())


def canonical_metadata(texts: Iterable[str]) -> tuple[str, ...]:
    """``texts`` as ``read_metadata`` would have stored them. Raises ``Invalid`` if one is no element of a namespace."""
    kept: dict[str, str] = {}
    for index, text in enumerate(texts):
        try:
            node = parse_xml(text)
        except Invalid as error:
            raise Invalid(f"metadata[{index}]: {error}") from None
        if not node.namespace or node.namespace in {*kept, NATIVE}:
            raise Invalid(
                f"metadata[{index}]: <{node.tag}> needs a namespace of its own, which no other element of metadata has"
            )
        kept[node.namespace] = _standalone(node)
    return tuple(kept.values())


def write_metadata(writer: Writer, network: Network) -> None:
    """The <metadata> element, if there is any; vnetd's own part is its last child."""
    own = native_element(network)
    nodes = [*map(parse_xml, network.metadata), *([own] if own else [])]
    if nodes:
        with writer.element("metadata"):
            for node in nodes:
                writer.metadata(node)


def _standalone(node: Node) -> str:
    """``node`` as text, with the declarations of prefixes it took from elements around it."""
    for one in _subtree(node):
        for name in (one.tag, *(name for name in one.attributes if ":" in name)):
            prefix = name.rpartition(":")[0]
            if prefix != "xml" and not _declared_within(one, node, prefix) and (uri := one.resolve(prefix)):
                node.declarations[prefix] = uri
    return foreign(node)


def _subtree(node: Node) -> Iterator[Node]:
    yield node
    for child in node.children:
        yield from _subtree(child)


def _declared_within(inner: Node, outer: Node, prefix: str) -> bool:
    node: Node | None = inner
    while node is not None:
        if prefix in node.declarations:
            return True
        node = None if node is outer else node.parent
    return False
