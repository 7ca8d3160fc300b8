#!/bin/sh -eu
# container.sh NETWORK [COMMAND…]: run a command in a network namespace that is attached to one of vnetd's networks.
#
# An example of what a container runtime does: make a namespace, attach it, get a lease, run, detach. Needs root for the
# namespace; that the port may be attached is for vnetd to say.
network=${1:?usage: container.sh NETWORK [COMMAND…]}
shift
name=container$$

ip netns add "$name"
trap 'ip netns delete "$name"' EXIT # the guest's end of the pair goes with it, and so does the port

vnetctl port attach "$network" --veth --netns "$name" --guest-device eth0
ip netns exec "$name" udhcpc -i eth0 -n -q -f -s "${0%/*}/udhcpc.script" >&2
ip netns exec "$name" "${@:-sh}"
