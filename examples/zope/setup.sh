#!/bin/sh
# Makes a Zope with two faults in DIR, and the configuration that keeps it alive.
#
# usage: setup.sh DIR BIN [FIRST_PORT]
#
#   DIR         where everything goes; must not exist yet
#   BIN         the `bin` of a Python environment that has Zope, ZEO, Products.ExternalMethod, py-spy
#   FIRST_PORT  ZEO listens there, Zope at the four ports after it; 8080 if not given
set -eu
[ $# -ge 2 ] || { sed -n '2,8s/^# \{0,1\}//p' "$0" >&2; exit 2; }
here=$(cd "$(dirname "$0")" && pwd)
bin=$(cd "$2" && pwd)
zeo_port=${3:-8080}
"$bin/mkwsgiinstance" -d "$1" -u admin:admin
dir=$(cd "$1" && pwd)
mkdir -p "$dir/Extensions"
cp "$here/Extensions/faults.py" "$dir/Extensions/"
for file in etc/zeo.conf etc/zope.conf etc/zope.ini holdfast.toml; do
  sed -e "s|@DIR@|$dir|g" -e "s|@BIN@|$bin|g" -e "s|@ZEO_PORT@|$zeo_port|g" \
    -e "s|@ZOPE_PORT@|$((zeo_port + 1))|g" "$here/$file" > "$dir/$file"
done
# The methods are put into the database, which the ZEO server has to serve meanwhile.
"$bin/runzeo" -C "$dir/etc/zeo.conf" > "$dir/var/log/setup.log" 2>&1 &
zeo=$!
trap 'kill $zeo; wait $zeo 2>/dev/null || true' EXIT
"$bin/zconsole" run "$dir/etc/zope.conf" "$here/add_methods.py" >> "$dir/var/log/setup.log" 2>&1
echo "ready: holdfast run --config $dir/holdfast.toml"
