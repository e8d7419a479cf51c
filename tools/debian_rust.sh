# Functions for scripts that compile with Debian's Rust (rustc-web) for other targets; sourced by them.
# `subject` names in capitals what the script tests, `packages` what it needs; `missing` succeeds if one of them is
# absent. With `required` set to 1 a script fails if it cannot test.

export RUSTC=/usr/bin/rustc

not_tested() {
    printf '\n!!! %s NOT TESTED: %s\n\n' "$subject" "$*"
    exit "${required:-0}"
}

# Installs the packages if they are missing and installing is permitted; "install_packages ARCHITECTURE" adds that
# architecture to Debian's first.
install_packages() {
    missing || return 0
    [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || not_tested "needs the Debian packages $packages"
    local log
    log=$(mktemp)
    # One at a time: apt-get fails if another one runs.
    {
        flock 9
        { [ $# = 0 ] || dpkg --add-architecture "$1"; } && apt-get update -qq \
            && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends --no-remove $packages
    } >"$log" 2>&1 9>"${TMPDIR:-/tmp}/maeum-apt.lock" || { tail -n 20 "$log"; rm -f "$log"; not_tested "the Debian packages $packages cannot be installed"; }
    rm -f "$log"
    ! missing || not_tested "the packages $packages are installed but not complete"
}

# Prints the compiler's version, which must be at least the one that Cargo.toml asks for.
compiler_version() {
    local least version
    least=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
    version=$("$RUSTC" --version | cut -d ' ' -f 2)
    printf '%s\n' "$least" "$version" | sort -V -C || return 1
    echo "$version"
}
