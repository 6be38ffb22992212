# `millrace-bench services`, whose relative paths lead to memory.
mkdir /run/bench && cd /run/bench || exit 1
# What a rival's rules take is counted by a controller.
echo +memory >/sys/fs/cgroup/cgroup.subtree_control
# What is typed here stands on the page, so that its directory is the one that nobody has to name.
@BENCH@ @ARGUMENTS@ </dev/null 2>&1
failed=$?
# One run has one directory of figures; families and clients are in its name.
[ $failed != 0 ] || [ -f target/bench/*/services.json ] || failed=1
echo "@RESULT@ services $failed"
# The figures go by the second serial line: on the console a message of the kernel's may fall into them.
stty -F /dev/ttyS1 raw
[ $failed = 0 ] && cat target/bench/*/services.json >/dev/ttyS1
