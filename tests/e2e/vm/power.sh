#!/bin/sh
# One life of a node with systems on volumes. Says what is there, puts it in order, says what is there
# then, and works until the plug is pulled. `lives` counts them.
set -eu
export PATH="/job:$PATH"
lives=$(cat lives 2>/dev/null || echo 0)

# What the host compares: volumes, what the node knows, what is open.
inventory() {
    echo "volumes $(lvs --noheadings -o lv_path,lv_tags --separator ' ' web | awk '$1 != "" && $1 !~ "/pool$" {print $1}' | sort | tr '\n' ' ')"
    echo "status $(imgnode status --json | tr -d '\n')"
    echo "mounts $(grep -c -e schroot -e /dev/mapper/web /proc/self/mountinfo)"
    echo "sessions $(schroot --list --all-sessions | tr '\n' ' ')"
    echo "journal $(ls /var/lib/imgnode/journals/*.json 2>/dev/null || true)"
}

# The repository as it is after a release; what is in it was written before all lives.
release() {
    rm -rf served && mkdir served
    for part in /job/store/*; do
        [ "${part##*/}" = env ] || ln -s "$part" served/
    done
    cp -a "/job/env-$1" served/env
}

if [ "$lives" = 0 ]; then
    vgcreate -q web /dev/ubdb
    lvcreate -q -y --type thin-pool --name pool --size 4G web
    release 1
    imgnode init --env dev --repo /root/served --root /job/env-1/dev/metadata/1.root.json
    imgnode install web --as Plain --target lvm:web/plain:400M:ext4:100M
    imgnode install web --as Thin --target lvm-thin:web/pool:400M:ext4
    sync
fi
version=$((lives + 2))
lives=$((lives + 1))
echo "$lives" >lives
sync lives

# What the life before has left, if there was one.
if [ "$lives" != 1 ]; then
    echo "before"
    inventory
    # LVM may not have come to all volumes yet; imgnode activates those that it needs.
    for system in Plain Thin; do
        imgnode verify "$system" >/dev/null
    done
    # Before anything else has cleaned up: what is active can be entered.
    for system in Plain Thin; do
        there=$(schroot -c "$system" -d / -- cat /etc/version)
        echo "enters $system $there"
    done
    imgnode gc --keep 0
    for system in Plain Thin; do
        imgnode verify "$system"
    done
    ! imgnode uninstall Third 2>/dev/null
    echo "settled"
    inventory
fi
release "$version"
case $((lives % 2)) in
    0) third=lvm:web/third:400M:ext4:100M ;;
    1) third=lvm-thin:web/pool:400M:xfs ;;
esac
echo "acts begin $(cut -d' ' -f1 /proc/uptime)"
act=0
act() {
    act=$((act + 1))
    echo "act $act"
    "$@"
}
act imgnode upgrade Plain
act imgnode install web --as Third --target "$third"
act imgnode upgrade Thin
act imgnode rollback Plain
act imgnode gc --keep 0
act imgnode uninstall Third
echo "acts end $(cut -d' ' -f1 /proc/uptime)"
sleep 600
