# A network of machines, each with namespaces and directories of its own, on one cable.
#
#   unshare --mount --net --pid --fork --kill-child --mount-proc sh fleet.sh DIR NAME...
#
# Below DIR/NAME is what a machine has: etc, root, srv, store, ... Whatever is to run there is a
# directory with a file `run`, whose name is written to the FIFO DIR/NAME/requests. It runs at a
# terminal whose keys come from the FIFO `keys` in that directory and whose screen is the file
# `screen`; with a file `without-terminal` there, into files `out` and `err`. At its end there is a
# file `code`.
set -eu

# It mounts over directories of the system: never outside of namespaces.
[ $$ = 1 ] || exit 1

# What one machine does: `sh fleet.sh --machine DIR NAME ADDRESS`
if [ "$1" = --machine ]; then
    fleet=$2 name=$3 address=$4 place=$2/$3
    mount -t proc proc /proc
    for part in etc lib cache doc; do
        mkdir -p "$place/$part" "$place/work/$part"
    done
    overlay() {
        mount -t overlay overlay -o "lowerdir=$1,upperdir=$place/$2,workdir=$place/work/$2" "$1"
    }
    overlay /etc etc
    overlay /var/lib lib
    overlay /var/cache cache
    overlay /usr/share/doc doc
    # Where an overlay cannot be, or what the machine that runs the tests is not to see.
    own() {
        mkdir -p "$place/$1" "$2"
        mount --bind "$place/$1" "$2"
    }
    own root /root
    own srv /srv
    own media /media
    own mnt /mnt
    own local /usr/local
    own log /var/log
    own tmp /tmp
    own node /var/lib/imgnode
    own layers /var/cache/imgbuild
    own schroot /var/lib/schroot
    mkdir -p /var/log/nginx /usr/local/bin /var/lib/schroot/session /var/lib/schroot/unpack \
        /var/lib/schroot/union/overlay /var/lib/schroot/union/underlay
    rm -rf /etc/schroot/chroot.d/* /etc/imgbuild /etc/imgnode
    mount -t tmpfs tmpfs /run
    mkdir -p /run/schroot/mount /run/lock
    case $name in
        # The store is on the builder's disk; whoever approves has it mounted.
        ann | bob | eve) mkdir -p /var/lib/imgbuild && mount --bind "$fleet/builder/store" /var/lib/imgbuild ;;
        *) own store /var/lib/imgbuild ;;
    esac
    # One machine has a resolver, another has none: images are the same.
    rm -f /etc/hosts /etc/hostname /etc/resolv.conf
    [ "$name" != builder ] || echo nameserver 192.0.2.1 > /etc/resolv.conf
    cp "$fleet/hosts" /etc/hosts
    cat "$fleet/ca.crt" >> /etc/ssl/certs/ca-certificates.crt
    ip link set lo up
    if [ "$address" != none ]; then
        until ip link show eth0 > /dev/null 2>&1; do /bin/sleep 0.05; done
        ip address add "$address/24" dev eth0
        ip link set eth0 up
    fi
    touch "$place/ready"
    while read -r request; do
        (
            code=0
            cd /root
            set -- env -i HOME=/root LANG=C.UTF-8 TERM=dumb FLEET="$fleet" NAME="$name" \
                PATH="$fleet/bin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" \
                env --default-signal=INT,QUIT,TERM,HUP sh -e "$request/run"
            if [ -e "$request/without-terminal" ]; then
                "$@" < /dev/null > "$request/out" 2> "$request/err" || code=$?
            else
                script --quiet --flush --return --command "$*" /dev/null \
                    < "$request/keys" > "$request/screen" 2>&1 || code=$?
            fi
            echo $code > "$request/code.new"
            mv "$request/code.new" "$request/code"
        ) &
    done <> "$place/requests"
    exit
fi

fleet=$1
shift
ip link add cable type bridge
ip link set cable up
: > "$fleet/hosts"
number=10
for name in "$@"; do
    number=$((number + 1))
    mkdir -p "$fleet/$name" "$fleet/builder/store"
    mkfifo "$fleet/$name/requests"
    echo "10.77.0.$number $name $name.example" >> "$fleet/hosts"
done
sed -i 's/ builder.example/& images.example/; 1i 127.0.0.1 localhost' "$fleet/hosts"
number=10
for name in "$@"; do
    number=$((number + 1)) address=10.77.0.$((number))
    # Root keys are used where no network is.
    [ "$name" != root ] || address=none
    unshare --mount --net --pid --ipc --uts --fork --kill-child \
        sh "$fleet/fleet.sh" --machine "$fleet" "$name" "$address" &
    if [ "$address" != none ]; then
        ip link add "to-$name" type veth peer name "eth-$name"
        ip link set "to-$name" master cable up
        until [ "$(readlink /proc/$!/ns/net)" != "$(readlink /proc/self/ns/net)" ]; do /bin/sleep 0.02; done
        ip link set "eth-$name" netns $! name eth0
    fi
done
for name in "$@"; do
    until [ -e "$fleet/$name/ready" ]; do /bin/sleep 0.05; done
done
touch "$fleet/ready"
wait
