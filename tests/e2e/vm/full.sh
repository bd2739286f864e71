#!/bin/sh
# A thin pool and a volume that fill up midway: an error, nothing left, and what was there still works.
set -eux
export PATH="/job:$PATH"
vgcreate -q web /dev/ubdb
mkdir served
for part in /job/store/*; do
    [ "${part##*/}" = env ] || ln -s "$part" served/
done
cp -a /job/env-1 served/env
imgnode init --env dev --repo /root/served --root /job/env-1/dev/metadata/1.root.json

thin() {
    lvs --noheadings -o lv_name,lv_tags,data_percent web
}

# The pool has room for the volume's size on paper only.
lvcreate -q -y --type thin-pool --name pool --size 24M web
lvchange -q --errorwhenfull y web/pool
code=0
imgnode install web --as Thin --target lvm-thin:web/pool:400M:ext4 2>err || code=$?
cat err
[ "$code" = 1 ]
grep -q '^error: ' err
thin
[ "$(lvs --noheadings -o lv_name web | tr -d ' ')" = pool ]
[ -z "$(ls /var/lib/imgnode/journals)" ]
[ ! -e /etc/schroot/chroot.d/imgnode-Thin.conf ]
imgnode status

# midway COMMAND...: held still when it begins to write, until somebody else has taken the rest of the
# pool. It must fail.
midway() {
    lvcreate -q -y --thin --virtualsize 300M --name greedy web/pool
    "$@" 2>err &
    node=$!
    set +x
    until grep -q '^writing ' err; do
        kill -0 $node || { cat err; exit 1; }
    done
    set -x
    kill -STOP $node
    dd if=/dev/urandom of=/dev/web/greedy bs=64k oflag=direct 2>/dev/null || true
    thin
    kill -CONT $node
    code=0
    wait $node || code=$?
    cat err
    [ "$code" = 1 ]
    grep '^error: ' err
    lvremove -q -y web/greedy
    [ -z "$(ls /var/lib/imgnode/journals)" ]
}

# With room for the first generation when it begins, and not later.
lvextend -q --size 80M web/pool
midway imgnode install web --as Thin --target lvm-thin:web/pool:400M:ext4
[ "$(lvs --noheadings -o lv_name web | tr -d ' ')" = pool ]
[ ! -e /etc/schroot/chroot.d/imgnode-Thin.conf ]
imgnode install web --as Thin --target lvm-thin:web/pool:400M:ext4

# The same with the next one.
lvextend -q --size 160M web/pool
rm -rf served/env && cp -a /job/env-2 served/env
midway imgnode upgrade Thin
[ "$(imgnode status --json | tr -d '\n ' | grep -o '"generation":[0-9]*' | head -n 1)" = '"generation":1' ]
imgnode verify Thin
[ "$(schroot -c Thin -d / -- cat /etc/version)" = 1 ]
imgnode upgrade Thin
imgnode verify Thin
[ "$(schroot -c Thin -d / -- cat /etc/version)" = 2 ]
imgnode uninstall Thin

# A volume that is too small for the image is not begun.
code=0
imgnode install web --as Small --target lvm:web/small:20M:ext4:100M 2>err || code=$?
cat err
[ "$code" != 0 ]
! lvs web/small
