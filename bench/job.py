"""What both are asked to do: the same documents, as often."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

DOCUMENTS = Path(__file__).with_name("documents")
DEVICE = "tap7"
MAC = "52:54:00:00:00:07"
ADDRESS = "192.168.222.7"
BRIDGE = "virbr7"
NETWORK = "bench"
FILTER = "bench-guarded"


@dataclass(frozen=True)
class Job:
    """``rounds`` of each action by vnetd, ``peer_rounds`` by libvirt, which is slower; ``seconds`` of reading."""

    rounds: int = 50
    peer_rounds: int = 20
    filter_rounds: int = 10
    port_rounds: int = 200
    seconds: float = 2.0

    @cached_property
    def network(self) -> str:
        """A NAT network with DHCP."""
        return (DOCUMENTS / "network.xml").read_text()

    @cached_property
    def filters(self) -> list[str]:
        """The filter that is bound comes last, those it refers to before it."""
        return [path.read_text() for path in sorted(DOCUMENTS.glob("filter-*.xml"))]


def binding(device: str, mac: str, address: str) -> str:
    """The document that binds the job's filter to a device."""
    return f"""<filterbinding>
  <owner><name>bench</name><uuid>0c5cd8a6-6f3e-4b0e-9b7d-3a5d0a6f7c11</uuid></owner>
  <portdev name='{device}'/>
  <mac address='{mac}'/>
  <filterref filter='{FILTER}'>
    <parameter name='MAC' value='{mac}'/>
    <parameter name='IP' value='{address}'/>
  </filterref>
</filterbinding>
"""


BINDING = binding(DEVICE, MAC, ADDRESS)


@dataclass(frozen=True, slots=True)
class Measured:
    """Seconds an action took, each time; calls a second; resident memory in bytes."""

    start: list[float]
    stop: list[float]
    bind: list[float]
    unbind: list[float]
    reads: float
    resident: int
