#!/bin/sh
# The suite of every kind of target, on volumes.
set -eu
vgcreate -q web /dev/ubdb
lvcreate -q -y --type thin-pool --name pool --size 6G web
export IMGNODE_TEST_PROGRAM=/job/imgnode IMGNODE_TEST_FILES=40
export IMGNODE_TEST_TARGETS='lvm:web/plain:400M:xfs:200M lvm-thin:web/pool:200M:ext4'
/job/targets --nocapture targets_that_this_machine_was_given
lvs web
[ "$(lvs --noheadings -o lv_name web | tr -d ' ')" = pool ]
