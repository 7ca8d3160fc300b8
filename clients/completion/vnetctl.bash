# Completion of vnetctl for bash. Install as /usr/share/bash-completion/completions/vnetctl, or source it.
#
# Names come from the daemon and may hold anything: they are never expanded (compgen -W would), and are quoted.

# Offer the words on standard input, one a line, that continue $cur.
_vnetctl_offer() {
    local word quoted
    while IFS= read -r word; do
        printf -v quoted '%q' "$word"
        [[ -n $word && ($word == "$cur"* || $quoted == "$cur"*) ]] && COMPREPLY+=("$quoted")
    done
}

_vnetctl_words() {
    printf '%s\n' "$@" | grep -v '^$'
}

# What the daemon on the bus of this command line has: networks, switches, filters, ports or binding devices.
_vnetctl_names() {
    local kind
    for kind; do
        case $kind in
            networks) vnetctl "${bus[@]}" network list --name ;;
            switches) vnetctl "${bus[@]}" switch list --name ;;
            filters) vnetctl "${bus[@]}" filter list --name ;;
            ports) vnetctl "${bus[@]}" port list --device ;;
            bindings) vnetctl "${bus[@]}" filter bindings --device ;;
            devices) (cd /sys/class/net && printf '%s\n' *) ;;
            namespaces) [[ -d /run/netns ]] && (cd /run/netns && printf '%s\n' *) ;;
        esac 2>/dev/null
    done
}

_vnetctl_files() {
    local file
    compopt -o filenames 2>/dev/null
    while IFS= read -r file; do
        COMPREPLY+=("$file")
    done < <(compgen -f -- "$cur")
}

# The value of the option before the cursor. Fails if that takes none.
_vnetctl_value() {
    case $1 in
        --bus) _vnetctl_offer < <(_vnetctl_words system session) ;;
        --to) [[ $noun == doctor ]] || _vnetctl_offer < <(_vnetctl_words xml json) ;;
        --format)
            if [[ $noun == switch ]]; then
                _vnetctl_offer < <(_vnetctl_words json table)
            elif [[ $verb == show ]]; then
                _vnetctl_offer < <(_vnetctl_words xml json table)
            else
                _vnetctl_offer < <(_vnetctl_words xml json)
            fi
            ;;
        --network) _vnetctl_offer < <(_vnetctl_names networks) ;;
        --filter) _vnetctl_offer < <(_vnetctl_names filters) ;;
        --device) [[ $verb == attach ]] || return 1; _vnetctl_offer < <(_vnetctl_names devices) ;;
        --netns) _vnetctl_offer < <(_vnetctl_names namespaces) ;;
        --spoof-check | --trust) _vnetctl_offer < <(_vnetctl_words on off) ;;
        --owner) _vnetctl_offer < <(compgen -u) ;;
        --group) _vnetctl_offer < <(compgen -g) ;;
        --tap | --guest-device | --host-device | --mac | --mtu | --parameter | --parent-index | --confirm | --vlan) ;;
        --from | --tcp | --udp) ;;
        *) return 1 ;;
    esac
}

_vnetctl_options() {
    local own=
    case "$noun $verb" in
        "network list") own="--active --inactive --persistent --transient --autostart --no-autostart --name --uuid" ;;
        "network show") own="--format --inactive" ;;
        "network define" | "network create" | "network plan" | "switch plan" | "filter define") own="--lenient" ;;
        "network stop") own="--all" ;;
        "network edit" | "filter edit") own="--format" ;;
        "filter show") own="--format --bound" ;;
        "network autostart") own="--disable" ;;
        "network update") own="--parent-index --live --config" ;;
        "switch list") own="--name --uuid" ;;
        "switch show") own="--format --inactive" ;;
        "switch define" | "switch create") own="--lenient --confirm" ;;
        "switch start" | "switch edit") own="--confirm" ;;
        "switch autostart") own="--disable" ;;
        "filter list") own="--name --uuid" ;;
        "filter bindings") own="--device --uuid" ;;
        "filter bind") own="--parameter" ;;
        "port list") own="--network --device --uuid" ;;
        "port show") own="--format" ;;
        "port attach") own="--veth --macvlan --ipvlan --lower --tap --device --macvtap --hostdev --passt --forward --netns --guest-device --host-device --address --gateway --owner
            --group --queues --mac --duplicate-mac --mtu --portgroup --vlan --isolated --unplugged --filter --parameter
            --inbound --outbound --spoof-check --trust" ;;
        "port move") own="--portgroup" ;;
        "port limit") own="--inbound --outbound" ;;
        "status ") own="--capabilities" ;;
        "doctor ") own="--to --from --tcp --udp --icmp" ;;
        "import-libvirt ") own="--dry-run" ;;
        "convert ") own="--to --lenient" ;;
        " ") own="--version" ;;
    esac
    # shellcheck disable=SC2086  # words, on purpose
    _vnetctl_words $own --json --bus --help
}

# The arguments of a verb; $1 is how many stand before the cursor.
_vnetctl_argument() {
    case "$noun $verb $1" in
        "network "*" 0")
            case $verb in
                define | create | plan) _vnetctl_files ;;
                list) ;;
                *) _vnetctl_offer < <(_vnetctl_names networks) ;;
            esac
            ;;
        "network start "* | "network stop "* | "network undefine "*) _vnetctl_offer < <(_vnetctl_names networks) ;;
        "network update 1") _vnetctl_offer < <(_vnetctl_words add add-first add-last modify delete) ;;
        "network update 2")
            _vnetctl_offer < <(_vnetctl_words bridge domain ip ip-dhcp-host ip-dhcp-range forward forward-interface \
                forward-pf portgroup dns-host dns-txt dns-srv)
            ;;
        "switch define 0" | "switch create 0" | "switch plan 0") _vnetctl_files ;;
        "switch show 0" | "switch edit 0" | "switch autostart 0" | "switch start "* | "switch stop "* | \
            "switch undefine "* | "switch confirm "*)
            _vnetctl_offer < <(_vnetctl_names switches)
            ;;
        "network update 3" | "filter define 0" | "convert  0") _vnetctl_files ;;
        "filter show 0" | "filter edit 0" | "filter undefine "* | "filter bind 1")
            _vnetctl_offer < <(_vnetctl_names filters)
            ;;
        "filter bind 0") _vnetctl_offer < <(_vnetctl_names ports devices | sort -u) ;;
        "filter unbind "*) _vnetctl_offer < <(_vnetctl_names bindings ports) ;;
        "port attach 0") _vnetctl_offer < <(_vnetctl_names networks) ;;
        "port show 0" | "port addresses 0" | "port link 0" | "port move 0" | "port limit 0" | "port isolate 0" | "port detach "*) _vnetctl_offer < <(_vnetctl_names ports) ;;
        "port link 1") _vnetctl_words up down ;;
        "doctor  0") _vnetctl_offer < <(_vnetctl_names ports networks) ;;
        "port isolate 1") _vnetctl_words on off ;;
        "port move 1") _vnetctl_offer < <(_vnetctl_names networks) ;;
        "import-libvirt  0") _vnetctl_files ;;
        "schema  0") _vnetctl_offer < <(_vnetctl_words network switch filter binding port) ;;
    esac
}

_vnetctl_verbs() {
    case $noun in
        network) _vnetctl_words list show define create plan start stop undefine edit update autostart leases ;;
        switch) _vnetctl_words list show define create plan start stop undefine confirm edit autostart ;;
        filter) _vnetctl_words list show define undefine edit bind unbind bindings ;;
        port) _vnetctl_words list show attach addresses link move limit isolate detach ;;
    esac
}

# Words up to the cursor. Readline also splits at ":" and "=", which stand inside bus addresses and parameters.
_vnetctl_split() {
    local line=$COMP_LINE part index
    for ((index = 0; index <= COMP_CWORD; index++)); do
        part=${COMP_WORDS[index]}
        if ((index)) && [[ $line != [[:blank:]]* ]]; then
            words[-1]+=$part
        else
            words+=("$part")
        fi
        line=${line#"${line%%[![:blank:]]*}"}
        line=${line#"$part"}
    done
}

_vnetctl() {
    local cur noun= verb= count=0 word index
    local -a bus=() words=()
    _vnetctl_split
    local cword=$((${#words[@]} - 1))
    cur=${words[cword]}
    COMPREPLY=()
    for ((index = 1; index < cword; index++)); do
        word=${words[index]}
        case $word in
            --bus) bus=(--bus "${words[++index]}") ;;
            --bus=*) bus=("$word") ;;
            --to | --from | --tcp | --udp | --format | --network | --filter | --netns | --owner | --group | --tap | \
                --guest-device | --host-device | --mac | --mtu | --parameter | --parent-index | --confirm | \
                --vlan) ((index++)) ;;
            --device) [[ $verb == attach ]] && ((index++)) ;;
            -?*) ;;
            *)
                if [[ -z $noun ]]; then
                    noun=$word
                elif [[ -z $verb && $noun == @(network|switch|filter|port) ]]; then
                    verb=$word
                else
                    ((count++))
                fi
                ;;
        esac
    done
    if ((cword > 1)) && _vnetctl_value "${words[cword - 1]}"; then
        :
    elif [[ $cur == -* ]]; then
        _vnetctl_offer < <(_vnetctl_options)
    elif [[ -z $noun ]]; then
        _vnetctl_offer < <(_vnetctl_words network switch filter port convert schema status import-libvirt \
            monitor doctor reconcile)
    elif [[ -z $verb && $noun == @(network|switch|filter|port) ]]; then
        _vnetctl_offer < <(_vnetctl_verbs)
    else
        _vnetctl_argument "$count"
    fi
    # Readline replaces only what follows the last of its own separators.
    local separated=${cur%"${cur##*[:=]}"}
    if [[ -n $separated && $COMP_WORDBREAKS == *:* ]]; then
        COMPREPLY=("${COMPREPLY[@]#"$separated"}")
    fi
}

complete -F _vnetctl vnetctl
