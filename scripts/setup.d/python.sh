# Python, uv in a private environment, and .venv with the locked dependencies.

export UV_PYTHON_DOWNLOADS=never
unset VIRTUAL_ENV

uv_home="$cache/uv-$(pin uv)"
uv="$uv_home/bin/uv"

provide_python() {
    [ -x "$uv" ] || install_uv
    [ -x .venv/bin/python ] || make_environment
    synchronise
}

provide_fuzzer() { synchronise --group fuzz; }

# The compiled data plane is optional: it is built where a Rust compiler is. uv builds it anew when its files
# have changed; what it depends on is compiled once for all checkouts.
synchronise() {
    cargo_suits && present cc || set -- --no-extra native "$@"
    with_cargo "$uv" sync --quiet --frozen --all-extras "$@"
}

# with_cargo COMMAND...: which may compile the data plane. Not all checkouts in one folder: the library has the same
# name for all of them, and cargo would take another's for its own.
with_cargo() {
    local own=$checkout/.venv/cargo common=$cache/cargo-common
    [ ! -d "$common" ] || [ -d "$own" ] || cp -al "$common" "$own" 2>/dev/null || cp -a "$common" "$own"
    CARGO_TARGET_DIR="$own" "$@"
    [ -d "$common" ] || [ ! -d "$own/release" ] || share_compiled "$own" "$common"
}

# share_compiled FROM TO: what the data plane depends on
share_compiled() {
    cp -a "$1" "$2.new"
    find "$2.new" -depth -name '*handfast*native*' -exec rm -r {} +
    rm -rf "$2.new/maturin" "$2.new/wheels"
    mv "$2.new" "$2"
}

# Debian refuses pip outside of an environment (PEP 668), so uv gets its own.
install_uv() {
    say "installing uv $(pin uv)"
    need_interpreter
    # Debian splits pip's bootstrap from python3.
    "$python" -c 'import ensurepip' 2>/dev/null || apt_install python3-venv
    "$python" -m venv --clear "$uv_home"
    indented "$uv_home/bin/pip" install --quiet --disable-pip-version-check "uv==$(pin uv)"
}

make_environment() {
    say "installing the dependencies that uv.lock names"
    need_interpreter
    "$uv" venv --quiet --python "$python" .venv
}

need_interpreter() {
    find_interpreter || {
        apt_install python3 python3-venv
        find_interpreter || die "Python >= 3.11 is needed, and this system's python3 is older: install one, then try again"
    }
}

# Leaves the first one that is new enough in $python.
find_interpreter() {
    local candidate
    for candidate in python3 python3.{14,13,12,11} /usr/bin/python3; do
        python=$("$candidate" -c 'import sys; sys.version_info < (3, 11) or print(sys.executable)' 2>/dev/null) || continue
        [ -z "$python" ] || return 0
    done
    return 1
}
