"""Documents an earlier run of the daemon left, as values."""

import json
import logging
from collections.abc import Mapping
from typing import TypeVar

from pydantic import ValidationError

from vnetd.host.protocols import Store
from vnetd.model.base import Value
from vnetd.model.errors import VnetError

log = logging.getLogger(__name__)

V = TypeVar("V", bound=Value)
Fields = Mapping[str, object]


class Records:
    """Reads them. ``whole``: all could be read, and used; else nothing that they may have described is torn down."""

    def __init__(self, store: Store) -> None:
        self.whole = True
        self._store = store

    async def load(self, kind: str, model: type[V], what: str, part: str = "") -> list[tuple[V, Fields]]:
        """Every document of a kind, or its field ``part``, with all its fields.

        One that cannot be read is logged as ``what`` with its name and left out; its file stays as it is. Those that
        are no JSON at all were set aside, maybe by an earlier run, and count as long as nobody wrote them anew.
        """
        found = []
        for name, document in (await self._store.load(kind)).items():
            fields = document if isinstance(document, Mapping) else {}
            value = self._value(model, fields.get(part) if part else document, f"{what} {name}")
            if value is not None:
                found.append((value, fields))
        if await self._store.broken(kind):
            self.whole = False
        return found

    def _value(self, model: type[V], document: object, what: str) -> V | None:
        try:
            return model.model_validate_json(json.dumps(document))
        except (ValidationError, VnetError) as error:
            log.error("%s is not readable and was left out: %s", what, error)
            self.whole = False
            return None
