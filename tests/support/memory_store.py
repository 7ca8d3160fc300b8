"""``host.Store`` in memory: documents as JSON text, so that only what JSON can hold comes back."""

import json
import re
from collections.abc import Mapping

from vnetd.linux.store import ROOTS, is_name
from vnetd.model.errors import HostError, Invalid


class MemoryStore:
    """``files`` holds text by kind and name; put text that is no JSON there to have a broken document.

    ``refuse`` is an error number the next write fails with.
    """

    def __init__(self) -> None:
        self.files: dict[str, dict[str, str]] = {}
        self.aside: dict[str, dict[str, str]] = {}
        self.shipped: dict[str, str] = {}
        self.refuse = 0

    async def load(self, kind: str) -> Mapping[str, object]:
        """Every document that parses; others are set aside."""
        documents: dict[str, object] = {}
        files = self._kind(kind)
        for name, text in sorted(files.items()):
            try:
                documents[name] = json.loads(text)
            except ValueError:
                self.aside.setdefault(kind, {})[name] = files.pop(name)
        return documents

    async def broken(self, kind: str) -> frozenset[str]:
        """Names of documents that were set aside and not written anew."""
        return frozenset(self.aside.get(kind, {}).keys() - self._kind(kind).keys())

    async def installed(self, name: str) -> str:
        """What a test put into ``shipped``."""
        return self.shipped.get(name, "")

    async def save(self, kind: str, name: str, document: object) -> None:
        """Keep a document."""
        files = self._kind(kind)
        text = json.dumps(document, allow_nan=False)
        self._refuse("save", f"{kind}/{_checked(name)}")
        files[name] = text

    async def delete(self, kind: str, name: str) -> None:
        """Forget a document, if there is one."""
        files = self._kind(kind)
        self._refuse("delete", f"{kind}/{_checked(name)}")
        files.pop(name, None)

    def _kind(self, kind: str) -> dict[str, str]:
        place, _, rest = kind.partition("/")
        if place not in ROOTS or not re.fullmatch(r"[a-z][a-z0-9-]*", rest):
            raise Invalid(f"{kind!r} is no kind of document")
        return self.files.setdefault(kind, {})

    def _refuse(self, operation: str, subject: str) -> None:
        code, self.refuse = self.refuse, 0
        if code:
            raise HostError(operation, subject, code)


def _checked(name: str) -> str:
    if not is_name(name):
        raise Invalid(f"{name!r} cannot name a document")
    return name
