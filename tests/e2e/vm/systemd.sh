#!/bin/sh
# A system under systemd, which is the machine's init: its fences, an encrypted secret, a socket, a boot.
set -eux
if [ ! -e installed ]; then
    cp /job/imgnode /usr/bin/
    cp /job/systemd/* /etc/systemd/system/
    systemctl daemon-reload
    imgnode init --env dev --repo /job/store --root /job/store/env/dev/metadata/1.root.json
    imgnode install fenced --as Fenced --target dir:/srv/imgnode
    # What only this machine can read.
    install -d -m 0700 /etc/imgnode/secrets/Fenced
    printf %s geheim | systemd-creds encrypt --with-key=host --name=key - \
        /etc/imgnode/secrets/Fenced/key.cred
    ! grep -r geheim /etc/imgnode
    echo IMGNODE_LISTEN=unix:/run/fenced.sock >/etc/imgnode/Fenced.env
    systemctl enable --now imgnode@Fenced
    # What runs before the switch is in a unit of its own, under the bounds of the service.
    imgnode logs Fenced | grep -x '.*prepares in /imgnode.slice/imgnode-Fenced-1-.*\.scope as web'
    touch installed
    lives=1
else
    # It came up by itself.
    for second in $(seq 60); do
        systemctl is-active imgnode@Fenced && break
        sleep 1
    done
    lives=2
fi
systemctl is-active imgnode@Fenced
imgnode logs Fenced >log
cat log
for line in 'has NoNewPrivs:1 files:200' 'sees 1 network, secret geheim' "writes /var/lib/app $lives" \
    'writes /tmp 1'; do
    tail -n 12 log | grep -F "$line"
done
! grep -e 'writes /etc' -e 'writes /srv' log
[ "$(grep -cF 'prepares in' log)" = 1 ]

# The service has its socket of the file system, also after a boot, whose /run was empty.
ask() {
    perl -MIO::Socket::UNIX -e 'my $c = IO::Socket::UNIX->new(Peer => "/run/fenced.sock") or die $!; print <$c>'
}
[ "$(ask)" = "answers life $lives" ]

# The unit of the main process has the bounds, and the kernel counts.
main=$(systemctl list-units --plain --no-legend 'imgnode-Fenced-*.scope' | cut -d' ' -f1 | grep -v greedy)
systemctl show -p MemoryMax -p CPUQuotaPerSecUSec -p TasksMax "$main" >bounds
cat bounds
grep -x MemoryMax=67108864 bounds
grep -x CPUQuotaPerSecUSec=500ms bounds
grep -x TasksMax=20 bounds
group=/sys/fs/cgroup$(systemctl show -P ControlGroup "$main")
[ "$(cat "$group/memory.max")" = 67108864 ]
[ "$(cat "$group/pids.max")" = 20 ]
# Its secret is in no environment but its own, and on no disk.
! grep -l geheim /proc/[0-9]*/environ

# A worker that wants all memory is killed, and nobody else is.
for second in $(seq 60); do
    journalctl -k -b --no-pager | grep -q 'Killed process .*(tail)' && break
    sleep 1
done
journalctl -k -b --no-pager | grep 'Memory cgroup out of memory: Killed process .*(tail)'
systemctl is-active imgnode@Fenced
[ "$lives" = 1 ] || systemctl disable --now imgnode@Fenced
[ "$lives" = 1 ] || imgnode uninstall Fenced
