"""What a user would type: libvirt's own default network, and a filter against pings."""

DEFAULT_NETWORK = """<network>
  <name>default</name>
  <bridge name="virbr0"/>
  <forward/>
  <ip address="192.168.122.1" netmask="255.255.255.0">
    <dhcp>
      <range start="192.168.122.2" end="192.168.122.254"/>
    </dhcp>
  </ip>
</network>
"""
BRIDGE = "virbr0"
GATEWAY = "192.168.122.1"

BLOCK_ICMP = """<filter name='blockicmp'>
  <rule action='drop' direction='in'>
    <icmp/>
  </rule>
</filter>
"""
