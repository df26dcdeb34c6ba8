# Kubernetes for the tests, and cert-manager, built once for each content of tests/cluster/programs and cert-manager.

cluster_packages=(
    buildah=buildah
    containerd=containerd
    containernetworking-plugins=/usr/lib/cni/ptp
    iptables=iptables
    mmdebstrap=mmdebstrap
    runc=runc
)
cluster_sources=tests/cluster/programs

provide_cluster() {
    may_be_root || die "a cluster's nodes need root; sudo must be allowed without a password"
    need "${cluster_packages[@]}"
    local home new
    home="$tools/cluster-$(content_of "$cluster_sources")-$(uname -m)"
    new="$tools/new"
    [ ! -d "$home" ] || return 0
    say "building Kubernetes from tests/cluster/programs (once; 6 to 15 minutes)"
    rm -rf "$new"
    mkdir -p "$new/bin"
    build_cluster "$new"
    mv "$new" "$home"
}

# content_of FOLDER: a name for what is in it
content_of() {
    (cd "$1" && find . -type f -printf '%P\n' | LC_ALL=C sort | xargs cat) | sha256sum | cut -c 1-16
}

build_cluster() (
    cd "$cluster_sources"
    version=k8s.io/component-base/version
    kubernetes=$(awk '$1 == "k8s.io/kubernetes" { print $2; exit }' go.mod)
    programs=(./node ./pause ./coredns helm.sh/helm/v4/cmd/helm)
    total=$(with_go list -deps "${programs[@]}" | wc -l)
    # Charts and clients go by the version.
    flags="-s -w -X $version.gitVersion=$kubernetes -X $version.gitMajor=1"
    flags+=" -X $version.gitMinor=$(cut -d. -f2 <<<"$kubernetes")"
    with_go build -v -trimpath -ldflags "$flags" -o "$1/bin/" "${programs[@]}" 2>&1 | progress "$total" >&2
    for name in etcd kube-apiserver kube-controller-manager kube-scheduler kube-proxy kubelet kubectl forward; do
        ln -s node "$1/bin/$name"
    done
)

provide_cert_manager() {
    local sources=tests/cluster/cert-manager new="$tools/new" home crds
    home="$tools/cert-manager-$(content_of "$sources")-$(uname -m)"
    [ ! -d "$home" ] || return 0
    say "building cert-manager from $sources (once; some minutes)"
    rm -rf "$new"
    mkdir -p "$new/bin"
    (cd "$sources" && indented with_go build -trimpath -ldflags "-s -w" -o "$new/bin/cert-manager" .)
    crds=$(cd "$sources" && with_go list -m -f '{{.Dir}}' github.com/cert-manager/cert-manager)/deploy/crds
    mkdir "$new/crds"
    cp "$crds"/*.yaml "$new/crds/"
    mv "$new" "$home"
}

# progress TOTAL: instead of each package's name, now and then their number
progress() {
    awk -v total="$1" '
        /^[[:alnum:].\/_-]+$/ { if (++count % 200 == 0) print "    compiled " count " of " total " packages"; fflush(); next }
        { print "    " $0; fflush() }'
}
