"""The scripts that run inside a machine, from the kernel's first to the command's end."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

SHARE = "/machine"
"""Where the machine finds the directory it shares with the outside."""
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

MASKED = (
    # What takes long, wants the network or a terminal or somebody to log in, or would hide a checkout below /tmp.
    *("apt-daily.timer", "apt-daily-upgrade.timer", "man-db.timer", "e2scrub_all.timer", "e2scrub_reap.service"),
    *("fstrim.timer", "logrotate.timer", "dpkg-db-backup.timer", "systemd-timesyncd.service", "getty@tty1.service"),
    *(
        "console-getty.service",
        "serial-getty@ttyS0.service",
        "remote-fs.target",
        "systemd-pstore.service",
        "systemd-binfmt.service",
    ),
    *("tmp.mount", "systemd-firstboot.service", "exim4.service", "cron.service", "ssh.service"),
    *("systemd-logind.service", "systemd-user-sessions.service", "systemd-random-seed.service"),
    *("systemd-udev-trigger.service", "systemd-udev-load-credentials.service", "systemd-hwdb-update.service"),
    *(f"modprobe@{name}.service" for name in ("configfs", "dm_mod", "drm", "efi_pstore", "fuse", "loop")),
    *("dev-hugepages.mount", "dev-mqueue.mount", "sys-kernel-debug.mount", "sys-kernel-tracing.mount"),
    *("proc-sys-fs-binfmt_misc.automount", "kmod-static-nodes.service", "systemd-modules-load.service"),
)

TMPFILES = ("tmp.conf", "x11.conf")
"""Clearing out /tmp would stall the boot, and a checkout may lie there."""

UNIT = f"""[Unit]
Requires=multi-user.target
After=multi-user.target
[Service]
Type=exec
ExecStart=/bin/sh {SHARE}/run
ExecStopPost=/bin/sh {SHARE}/end
"""


def init(*, disk: bool) -> str:
    """First of all: load modules, put the overlay on the shared root, and go on there."""
    upper = "mount -t ext4 /dev/vda /upper" if disk else "mount -t tmpfs -o size=75% upper /upper"
    return f"""#!/bin/busybox sh
say() {{ echo "machine: $*"; }}
b=/bin/busybox
export PATH=/bin
$b mkdir -p /sbin; $b --install -s /bin
mount -t devtmpfs dev /dev; mount -t proc proc /proc
for module in /modules/*; do insmod $module || say "cannot load $module"; done
{upper} && mkdir -p /upper/files /upper/work
mount -t 9p -o ro,trans=virtio,version=9p2000.L,msize=512000,cache=loose root /lower \\
    && mount -t overlay -o lowerdir=/lower,upperdir=/upper/files,workdir=/upper/work overlay /root \\
    && mkdir -p /root{SHARE} /root/dev /root/proc /root/sys /root/run /root/tmp \\
    && mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000 share /root{SHARE} \\
    || {{ say "cannot mount the root file system"; poweroff -f; }}
[ -x /root/bin/sh ] || {{ say "the root file system holds no shell"; poweroff -f; }}
mount --move /dev /root/dev; umount /proc
exec switch_root /root /bin/sh {SHARE}/start
"""


def runtime(masked: Sequence[str]) -> dict[str, str | None]:
    """What systemd finds below ``/run``: text by path, ``None`` for what is masked by a link to ``/dev/null``."""
    units = {f"systemd/system/{name}": None for name in (*MASKED, *masked)}
    return {
        **units,
        **{f"tmpfiles.d/{name}": None for name in TMPFILES},
        "systemd/system/machine-command.service": UNIT,
    }


def start(version: str, *, systemd: bool) -> str:
    """On the shared root: mount what every system has, then run the command or hand over to systemd."""
    # One program that copies much, for to start one takes a tenth of a second.
    prepare_systemd = f"""
cp -RP {SHARE}/runtime/. /run
# This is no new system, whose caches would have to be made.
touch /etc/.updated /var/.updated
systemd=/lib/systemd; [ -x $systemd/systemd ] || systemd=/usr/lib/systemd
# They would make units of the real machine's file systems, terminals and init scripts.
mount -t tmpfs none $systemd/system-generators
exec $systemd/systemd --unit=machine-command.service --log-target=kmsg --show-status=yes
"""
    return f"""#!/bin/sh
export PATH={PATH} HOME=/root LANG=C.UTF-8
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t tmpfs -o mode=0755 run /run
mkdir -p /dev/pts /dev/shm /run/netns /run/lock
mount -t devpts -o ptmxmode=666 pts /dev/pts; mount -t tmpfs shm /dev/shm; mount -t cgroup2 cgroup /sys/fs/cgroup
mkdir -p /lib/modules/{version}
mount -t 9p -o ro,trans=virtio,version=9p2000.L,msize=512000,cache=loose modules /lib/modules/{version}
modprobe tun; ip link set lo up; echo machine >/proc/sys/kernel/hostname
sh {SHARE}/before </dev/null >{SHARE}/before.log 2>&1
{prepare_systemd if systemd else f"sh {SHARE}/run; sh {SHARE}/end"}
"""


def run(command: Sequence[str], directory: Path, environment: Mapping[str, str]) -> str:
    """Run the command with its output to the outside, and note its exit status."""
    exports = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in environment.items())
    return f"""#!/bin/sh
export PATH={PATH} HOME=/root LANG=C.UTF-8
{exports}for port in /sys/class/virtio-ports/*; do output=/dev/${{port##*/}}; done
: >{SHARE}/started
cd {shlex.quote(str(directory))} && {shlex.join(command)} </dev/null >$output 2>&1
echo $? >{SHARE}/status
"""


END = """#!/bin/sh
sync
echo o >/proc/sysrq-trigger
sleep 60
"""
"""Powers the machine off at once: nothing of it is of use any more, except what is on disk."""
