# Shared by the parts of scripts/setup: the cache, messages, pinned versions.

# Debian keeps `ip`, `nft` and `tcpdump` where a user's PATH does not look.
export PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"

cache=${HANDFAST_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/handfast}

say() { printf 'setup: %s\n' "$*" >&2; }

die() {
    say "$*"
    exit 1
}

# pin NAME: the version of NAME in scripts/pins
pin() { awk -v name="$1" '$1 == name { print $2 }' "$checkout/scripts/pins"; }

# at_least MINIMUM VERSION
at_least() { printf '%s\n' "$1" "$2" | sort --check=quiet --version-sort; }

# indented COMMAND...: its output set off from ours
indented() { "$@" 2>&1 | sed 's/^/    /' >&2; }
