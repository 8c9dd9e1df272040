"""The programs that a guest runs for a copy: what sends, and what receives. POSIX shell and the GNU
tools that a guest of either base has.
"""

from __future__ import annotations

# What the programs of a guest end with if a path is wrong (EX_NOINPUT of sysexits.h).
BAD_PATH = 66

# Says what it sends and how much, then sends it. GNU tar ends with 1 if a file changed meanwhile.
SEND = r"""
fail() { echo "$1" >&2; exit 66; }
real=$(readlink -e -- "$1") || fail "there is no $1, or the user may not see it"
if [ -d "$real" ]; then
  [ "$2" = tree ] || fail "$1 is a folder; only a file can be a stream"
  size=$(du -sb -- "$real" 2>/dev/null | cut -f1)
  echo "folder ${size:-0}"
  exec tar -C "$real" --format=gnu --hard-dereference -cf - .
fi
[ -f "$real" ] || fail "$1 is neither a file nor a folder"
[ -r "$real" ] || fail "the user may not read $1"
echo "file $(stat -c %s -- "$real")"
[ "$2" = tree ] || exec cat -- "$real"
exec tar -C "${real%/*}/" --format=gnu -cf - -- "./${real##*/}"
"""

# Takes a tree or the frames of a stream into a stage, and puts it in its place if it is whole.
RECEIVE = r"""
set -eu
fail() { echo "$1" >&2; exit 66; }
dest=$1 name=$2 kind=$3 end=$4
case $dest in /*) ;; *) dest=$PWD/$dest ;; esac
target=$dest
if [ -d "$dest" ]; then
  [ -z "$name" ] || target=${dest%/}/$name
else
  case $dest in */) fail "there is no folder $1" ;; esac
fi
parent=$(dirname -- "$target")
[ -d "$parent" ] || fail "there is no folder $parent"
[ -w "$parent" ] || fail "the user may not write in $parent"
# A device or pipe would be gone: the copy takes the place of what is there.
[ ! -e "$target" ] || [ -f "$target" ] || [ -d "$target" ] ||
  fail "$target is neither a file nor a folder"
# Its name is known before there is anything of that name: no end comes too early to remove it.
stage=$parent/.rave-cp.$end
alone() { trap "" HUP INT TERM PIPE; }
trap 'alone; rm -rf -- "$stage"' EXIT
trap 'alone; exit 1' HUP INT TERM PIPE
mkdir -m 700 -- "$stage"
exec 9<"$stage"
flock 9
# Those of copies that were killed, which nobody holds; a new one may have yet to be locked.
for left in "$parent"/.rave-cp.*; do
  [ "$left" = "$stage" ] || find "$left" -maxdepth 0 -type d -user "$(id -u)" -mmin +1 \
    -exec flock -n {} rm -rf -- {} \; 2>/dev/null || :
done
if [ "$kind" = tree ]; then
  tar -C "$stage" --no-same-owner -pxf -
else
  while read -r size; do
    if [ "$size" = "$end" ]; then : >"$stage/$end"; break; fi
    head -c "$size"
  done >"$stage/content"
  if [ -f "$target" ]; then mode=$(stat -c %a -- "$target"); else mode=644; fi
  chmod "$mode" -- "$stage/content"
fi
[ -e "$stage/$end" ] || { echo "the copy broke off" >&2; exit 1; }
if [ -d "$stage/content" ] && [ -d "$target" ]; then
  cd -- "$stage/content"
  find . -type d -exec sh -ec '
    target=$1; shift
    for folder; do
      [ -d "$folder" ] || continue
      if [ -e "$target/$folder" ]; then
        [ -d "$target/$folder" ] || { echo "$target/$folder is no folder" >&2; exit 1; }
        find "$folder" -mindepth 1 -maxdepth 1 ! -type d -print0 |
          xargs -0r mv -f -t "$target/$folder" --
      else
        mv -T -- "$folder" "$target/$folder"
      fi
    done' merge "$target" {} +
else
  [ ! -d "$target" ] || fail "$target is a folder, and what is copied is a file"
  if [ -d "$stage/content" ] && [ -e "$target" ]; then
    fail "$target is a file, and what is copied is a folder"
  fi
  mv -fT -- "$stage/content" "$target"
fi
"""
