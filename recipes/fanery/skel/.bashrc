# Read by interactive shells.
case $- in
    *i*) ;;
    *) return ;;
esac
HISTCONTROL=ignoreboth
PS1='${debian_chroot:+($debian_chroot)}\u@\h:\w\$ '
