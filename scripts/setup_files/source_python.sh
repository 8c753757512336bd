# A free-threaded Python from the distribution's own source package; sourced, not run.
# shellcheck shell=bash

# What CPython's build needs for the modules that pip and ctypes stand on; Debian's names.
BUILD_PACKAGES=(gcc libc6-dev make libssl-dev zlib1g-dev libffi-dev)

# The release whose package lists have python3.13: the machine's own, unless it is older than that.
source_suite() {
  case $1 in
    bullseye | bookworm) echo trixie ;;
    *) echo "$1" ;;
  esac
}

# source_lists APT FROM SUITE FOLDER: writes the lists of the folder APT as lists of sources of SUITE,
# with the same servers and keys. Only what names FROM itself counts: its updates, and other servers,
# have suites of other names.
source_lists() {
  local apt=$1 from=$2 suite=$3 folder=$4 file
  for file in "$apt"/sources.list "$apt"/sources.list.d/*.list; do
    if [ -f "$file" ]; then
      sed -nE "s/^deb( +\[[^]]*\])? +([^ ]+) +$from +(.*)/deb-src\1 \2 $suite \3/p" "$file"
    fi
  done | sort -u >"$folder/machine.list"
  for file in "$apt"/sources.list.d/*.sources; do
    # A paragraph at a time.
    if [ -f "$file" ]; then
      awk -v from="$from" -v suite="$suite" 'BEGIN { RS = ""; FS = "\n" } {
        kept = 0
        text = ""
        for (i = 1; i <= NF; i++) {
          if ($i ~ /^#/) continue
          if ($i ~ /^Types:/) $i = "Types: deb-src"
          if ($i ~ /^Suites:/) {
            kept = (" " substr($i, 8) " ") ~ (" " from " ")
            $i = "Suites: " suite
          }
          text = text $i "\n"
        }
        if (kept) print text
      }' "$file"
    fi
  done >"$folder/machine.sources"
}

# fetch_source FOLDER: leaves the source archive of python3.13 in FOLDER. The machine's own lists,
# caches and configuration of apt are not written to.
fetch_source() {
  local work=$1 codename suite
  # shellcheck disable=SC1091 # of the machine
  codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
  suite=$(source_suite "$codename")
  mkdir -p "$work/parts" "$work/lists/partial" "$work/cache/archives/partial"
  source_lists /etc/apt "$codename" "$suite" "$work/parts"
  if ! grep -q deb-src "$work"/parts/*; then
    fail "this machine's apt files name no server for $codename: nothing to get python3.13's source from"
  fi
  local options=(
    -o "Dir::Etc::SourceList=/dev/null" -o "Dir::Etc::SourceParts=$work/parts"
    -o "Dir::State::Lists=$work/lists" -o "Dir::Cache=$work/cache" -o "APT::Sandbox::User="
  )
  say "fetching the source of python3.13 ($suite)" >&2
  (
    cd "$work"
    quietly apt-get "${options[@]}" update &&
      quietly apt-get "${options[@]}" source --download-only python3.13
  ) || fail "could not fetch the source package python3.13 of $suite"
}

# build_python PREFIX: builds it and puts it there whole, or not at all.
build_python() (
  prefix=$1
  work=$(mktemp -d "${prefix%/*}/build.XXXXXX")
  trap 'rm -rf "$work"' EXIT
  can_build() { command -v gcc && command -v make && printf '#include <%s>\n' openssl/ssl.h zlib.h ffi.h |
    gcc -E - ; }
  if ! can_build >/dev/null 2>&1; then
    can_apt || fail "building Python needs ${BUILD_PACKAGES[*]} (Debian's names): install them and run this again"
    apt_install "${BUILD_PACKAGES[@]}" >&2 || fail "could not install ${BUILD_PACKAGES[*]}"
  fi
  fetch_source "$work" || exit
  mkdir "$work/source"
  tar -xf "$work"/python3.13_*.orig.tar.[gx]z -C "$work/source" --strip-components=1 ||
    fail "could not unpack the source"
  say "building it without the GIL: about three minutes on two cores" >&2
  cd "$work/source"
  quietly ./configure --prefix="$prefix" --disable-gil --disable-test-modules ||
    fail "configure failed"
  quietly make -j"$(nproc)" || fail "make failed"
  # Installed beside its place, then moved there: a folder with that name is always whole.
  quietly make install DESTDIR="$work/installed" || fail "make install failed"
  mv "$work/installed$prefix" "$prefix" || exit
)
