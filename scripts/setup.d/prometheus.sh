# Prometheus as Debian has it, unpacked only: its package would start a service.

provide_prometheus() {
    local home="$tools/prometheus-debian" new="$tools/new"
    [ ! -x "$home/usr/bin/promtool" ] || return 0
    say "fetching Prometheus"
    rm -rf "$new" "$home"
    mkdir -p "$new"
    # apt's own user cannot write there: what is fetched is checked all the same.
    (cd "$new" && { fetch_package prometheus || { as_root apt-get -qq update && fetch_package prometheus; }; })
    dpkg-deb --extract "$new"/prometheus_*.deb "$new"
    rm "$new"/prometheus_*.deb
    mv "$new" "$home"
}

fetch_package() { indented apt-get -qq -o APT::Sandbox::User=root download "$1"; }
