#!/bin/busybox sh
# The first process of a guest: mounts what the tests expect, runs them, reports their exit code and powers off.
/bin/busybox --install -s /bin
export PATH=/usr/bin:/bin HOME=/
echo "guest: up"

mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts pts /dev/pts
mount -t tmpfs tmp /tmp
mount -t tmpfs run /run
mount -t cgroup2 none /sys/fs/cgroup
mount -t bpf bpf /sys/fs/bpf
mount -t tracefs trace /sys/kernel/tracing
mount -t securityfs security /sys/kernel/security

while read -r module; do
    insmod "/lib/modules/$module.ko" || echo "guest: module $module does not load"
done < /lib/modules/order

echo root:x:0:0:root:/:/bin/sh > /etc/passwd
echo root:x:0: > /etc/group
echo 127.0.0.1 localhost > /etc/hosts
# Tests mount their own over these.
: > /etc/resolv.conf
: > /etc/nsswitch.conf
ip link set lo up

/run-tests
code=$?
# A line of its own on the second serial port: the console is full of other text.
echo "$code" > /dev/ttyS1
sync
poweroff -f
