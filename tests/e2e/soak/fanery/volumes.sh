#!/bin/sh
# Fanery on volumes: from a tarball carried by hand and from a web server, started, upgraded and
# rolled back while it is asked; at the second boot, whether it came up by itself.
set -eu
export PATH="/job:$PATH"
repository=http://127.0.0.1:8000/served
header='X-Fanery-Call: true'

say() {
    echo "== $(cut -d' ' -f1 /proc/uptime) s: $*"
}

# Prints what the app on this port answers.
ask() {
    curl -sS --fail --max-time 120 -H "$header" "http://127.0.0.1:$1/hello/x.json"
}

# under_load NAME COMMAND...: asks for 30 seconds at least, and no request may fail meanwhile.
under_load() {
    name=$1
    shift
    wrk -t1 -c4 -d3600s --timeout 30s -H "$header" http://127.0.0.1:8002/hello/y.json >wrk.out &
    wrk=$!
    begun=$(date +%s)
    sleep 2
    "$@"
    while [ $(($(date +%s) - begun)) -lt 32 ]; do sleep 1; done
    kill -INT $wrk
    wait $wrk || true
    cat wrk.out
    say "$name: $(grep ' requests in ' wrk.out)"
    ! grep -e 'Socket errors' -e 'Non-2xx' wrk.out
}

# A session of a volume is a snapshot of it: its kind and its origin.
snapshot_of() {
    lvs --noheadings -o lv_attr,origin web | grep "^  $1.* $2 *\$"
}

if [ -e booted ]; then
    say 'booted again'
    systemctl start imgnode@Fanery
    systemctl show -p ActiveState -p NRestarts -p StatusText imgnode@Fanery
    [ "$(ask 8002)" = '"hello x"' ]
    journalctl -b -o short-monotonic --no-hostname -u imgnode@Fanery -u schroot
    imgnode status
    snapshot_of V imgnode-Fanery.2
    [ "$(systemctl show -P NRestarts imgnode@Fanery)" = 0 ]
    systemctl disable --now imgnode@Fanery
    ! ask 8002
    imgnode uninstall Fanery
    [ "$(lvs --noheadings -o lv_name web | tr -d ' ')" = pool ]
    exit
fi
touch booted
cp /job/imgnode /usr/bin/
cp /job/systemd/* /etc/systemd/system/
mkdir -p /etc/imgnode
printf 'IMGNODE_LISTEN=%s\nIMGNODE_ARGS=%s\n' 127.0.0.1:8002 '--workers 1 --timeout 600' \
    >/etc/imgnode/Fanery.env
systemctl daemon-reload

cat >nginx.conf <<'end'
events {}
http {
    access_log off;
    server {
        listen 127.0.0.1:8000;
        root /job;
    }
}
end
nginx -c "$PWD/nginx.conf"

vgcreate -q web /dev/ubdb
lvcreate -q -y --type thin-pool --name pool --size 12G web
imgnode init --env dev --repo "$repository" --root /job/root.json

say 'a tarball carried by hand becomes a volume'
imgnode build-schroot /job/fanery-node.tar.zst Carried web carried 3G xfs
say 'the same over HTTP, on a thin volume'
imgnode install fanery-node --as Fanery --target lvm-thin:web/pool:3G
say 'both start'
imgnode start Carried --listen 127.0.0.1:8001 -- --workers 1 --timeout 600
systemctl enable --now imgnode@Fanery
[ "$(ask 8001)" = '"hello x"' ]
[ "$(ask 8002)" = '"hello x"' ]
lvs -o lv_name,lv_attr,lv_size,origin,data_percent web
snapshot_of s carried
snapshot_of V imgnode-Fanery.1
free -m

say 'wanted: the second release'
while ! curl -sf -o /dev/null "$repository/second"; do sleep 0.2; done
say 'upgrade on lvm'
imgnode upgrade Carried --timeout 300
[ "$(ask 8001)" = '"hello x"' ]
[ "$(schroot -c Carried -d / -- cat /etc/second)" = 2 ]
say 'back'
imgnode switch Carried 1 --timeout 300
[ "$(ask 8001)" = '"hello x"' ]
imgnode verify Carried
imgnode stop Carried --timeout 300

say 'upgrade on lvm-thin'
under_load 'upgrade on lvm-thin' imgnode upgrade Fanery --timeout 300
[ "$(schroot -c Fanery -d / -- cat /etc/second)" = 2 ]
snapshot_of V imgnode-Fanery.2
under_load 'rollback on lvm-thin' imgnode rollback Fanery --timeout 300
! schroot -c Fanery -d / -- cat /etc/second
under_load 'reload on lvm-thin' imgnode reload Fanery
under_load 'switch on lvm-thin' imgnode switch Fanery 2 --timeout 300
[ "$(schroot -c Fanery -d / -- cat /etc/second)" = 2 ]
say 'verify'
imgnode verify Fanery
imgnode status
say 'clean up'
imgnode gc --keep 0
imgnode uninstall Carried
lvs -o lv_name,lv_attr,lv_size,origin,data_percent web
[ "$(lvs --noheadings -o lv_name web | grep -c carried)" = 0 ]
systemctl show -p ActiveState -p NRestarts -p StatusText imgnode@Fanery
