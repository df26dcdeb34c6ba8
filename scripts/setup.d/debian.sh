# Debian packages, installed only when a program is missing.

# Each package with a program or file that shows that it is there.
interop_packages=(
    ca-certificates=update-ca-certificates
    conntrack=conntrack
    faketime=faketime
    iperf3=iperf3
    iproute2=ip
    iputils-ping=ping
    nftables=nft
    procps=sysctl
    systemd=systemd-analyze
    tcpdump=tcpdump
    util-linux=nsenter
    wireguard-go=wireguard-go
    wireguard-tools=wg
)

provide_debian_programs() { need "${interop_packages[@]}"; }

# need PACKAGE=PROGRAM...
need() {
    local pair missing=()
    for pair in "$@"; do
        present "${pair#*=}" || missing+=("${pair%%=*}")
    done
    [ ${#missing[@]} -eq 0 ] || apt_install "${missing[@]}"
}

present() { [ -e "$1" ] || command -v "$1" >/dev/null; }

# Recommended packages stay out: those of wireguard-tools include a kernel.
apt_install() {
    local install=(apt-get -qq -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 install --no-install-recommends "$@")
    command -v apt-get >/dev/null || die "this system has no apt-get: install what Debian calls '$*', then try again"
    may_be_root || die "missing Debian packages, and neither root nor sudo to install them with. Ask an administrator for:
       apt-get install --no-install-recommends $*"
    say "installing Debian packages: $*"
    as_root "${install[@]}" || {
        say "the package lists may be old: updating them"
        as_root apt-get -qq update && as_root "${install[@]}"
    }
}

may_be_root() {
    [ "$(id -u)" -eq 0 ] || sudo -n true 2>/dev/null || { [ -t 0 ] && command -v sudo >/dev/null && sudo -v; }
}

as_root() {
    local command=(env DEBIAN_FRONTEND=noninteractive "$@")
    if [ "$(id -u)" -eq 0 ]; then
        indented "${command[@]}"
    else
        indented sudo "${command[@]}"
    fi
}
