# Makes versions of a small tree with a shell in it, and a store that has released them one after
# the other: env-1 has the first, env-2 two of them, and so on.
#
#   sh -eu tree.sh DIR VERSIONS FILES; IMGBUILD_* say where the rest goes
dir=$1 versions=$2 files=$3
mkdir -p "$dir/tree" && cd "$dir/tree"
mkdir -p bin usr/bin etc proc sys dev tmp data
for program in /usr/bin/dash /usr/bin/cat; do
    cp "$program" usr/bin/
    for library in $(ldd "$program" | grep -o '/[^ ]*'); do
        mkdir -p ".$(dirname "$library")"
        cp -L "$library" ".$library"
    done
done
ln -s ../usr/bin/dash bin/sh
chmod 1777 tmp
for file in $(seq "$files"); do
    head -c 96000 /dev/urandom >"data/$file"
done
for version in $(seq "$versions"); do
    echo "$version" >etc/version
    # A file that grows, one that changes within, one that is new and one that goes.
    head -c 30000 /dev/urandom >>data/1
    head -c 50000 /dev/urandom | dd of=data/3 bs=1000 seek=20 conv=notrunc status=none
    head -c 200000 /dev/urandom >"data/new-$version"
    rm -f "data/new-$((version - 1))"
    "$imgbuild" import . --name web
    cp -a "$IMGBUILD_STORE/env" "$dir/env-$version"
done
