#!/bin/busybox sh
# The first process of a virtual machine: mounts what the tests expect of a host, runs what the machine is there for
# (tests.sh or services.sh), and switches the machine off. @...@ is filled in by xtask.
/bin/busybox mkdir -p /proc /sys /dev /tmp /run /var /etc /root /usr/bin /usr/sbin /sbin
/bin/busybox --install -s /bin
# One test at a time: an emulated machine has the speed of one slow processor, and tests wait for things with a limit.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root RUST_BACKTRACE=1 RUST_TEST_THREADS=1 TERM=dumb
# With MILLRACE_MACHINE, a test that may skip what a kernel lacks must not skip it: here it is known to be there.
export @VARIABLES@
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
# Nothing is mounted on /tmp: a checkout that lies there has its tests there, and the root is memory anyway.
mount -t tmpfs tmpfs /run
mount -t bpf bpf /sys/fs/bpf
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t tracefs tracefs /sys/kernel/tracing 2>/dev/null
ln -s /proc/self/fd /dev/fd
ln -s /run /var/run
echo '127.0.0.1 localhost' >/etc/hosts
echo 'root:x:0:0:root:/root:/bin/sh' >/etc/passwd
for module in @MODULES@; do
    insmod /modules/$module || echo "cannot load $module"
done
ip link set lo up
ulimit -l unlimited
ulimit -n 65536

echo "@BEGIN@ $(uname -r)"
@RUN@
[ $failed = 0 ] || dmesg | tail -n 60
echo "@END@ $failed"
# The console needs a moment to take the last line.
sleep 0.2
poweroff -f
