# Sourced by packaging/install and, as part of them, by the maintainer scripts of the Debian package: what has to be done
# on a system before and after files come and go. POSIX shell.
# shellcheck shell=sh

# Names of people's own things survive a removal; a purge takes them.
vnetd_running() {
    [ -d /run/systemd/system ]
}

# The group, the directories, compiled Python: all of it can be done again at any time.
vnetd_prepare() {
    if command -v systemd-sysusers >/dev/null; then
        systemd-sysusers vnetd.conf
    else
        getent group vnetd >/dev/null || groupadd --system vnetd
    fi
    if vnetd_running; then
        systemd-tmpfiles --create vnetd.conf
    else
        mkdir -p /etc/vnetd /var/lib/vnetd
    fi
    /usr/lib/vnetd/bin/python -m compileall -q /usr/lib/vnetd/lib || true
}

vnetd_reload() {
    vnetd_running || return 0
    systemctl daemon-reload
    # A bus that was there before its policy and activation files must read them.
    busctl call org.freedesktop.DBus /org/freedesktop/DBus org.freedesktop.DBus ReloadConfig >/dev/null 2>&1 || true
}

# Networks first, while there is a daemon that can take them down: nobody else could look after them.
vnetd_stop_networks() {
    vnetd_running && systemctl --quiet is-active vnetd.service || return 0
    vnetctl network stop --all >/dev/null || echo "vnetd: some networks could not be stopped and stay as they are" >&2
}

vnetd_forget_compiled() {
    find /usr/lib/vnetd -depth -name __pycache__ -exec rm -rf {} + 2>/dev/null || true
}

vnetd_purge() {
    rm -rf /etc/vnetd /var/lib/vnetd /run/vnetd
}
