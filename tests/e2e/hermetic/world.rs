//! Nothing of the host but the kernel: what a step sees, word for word.

use tests::bench::bench;
use tests::binaries::{Ran, imgbuild};

/// Prints the world, section by section.
const LOOK: &str = r#"set +e
echo '# environment'; env | grep -v ^SOURCE_DATE_EPOCH= | LC_ALL=C sort
echo '# process'; id; umask; hostname; pwd; tty; grep -E '^(SigBlk|SigIgn|NoNewPrivs):' /proc/self/status
cut -d' ' -f6,7 /proc/$$/stat | tr ' ' '\n' | while read -r n; do [ "$n" = 0 ] && echo none || echo own; done
if (: < /dev/tty) 2>/dev/null; then echo 'a terminal'; fi
sed 's/.*://' /proc/self/cgroup | sort -u
echo '# descriptors'; ( for fd in /proc/$$/fd/*; do [ "${fd##*/}" = 10 ] || echo "${fd##*/}"; done ); readlink /proc/$$/fd/0
echo '# limits'; sed 1d /proc/self/limits | cut -c1-44 | sed -E 's/ +/ /g; s/ $//' | grep -v '^Max processes'
echo '# devices'; find /dev -printf '%P %y %m %l\n' | LC_ALL=C sort | sed 's/ $//'
echo '# files'; cd /etc; for f in hosts hostname timezone default/locale; do echo "$f:"; cat $f; done; wc -c < resolv.conf; readlink localtime
echo '# masked'; for p in /proc/acpi /proc/keys /proc/kcore /proc/timer_list /proc/interrupts /proc/sched_debug /proc/scsi /sys/firmware /sys/kernel/debug; do
    if [ -d $p ]; then ls -A $p; elif [ -e $p ]; then head -c 9 $p; fi; done
for p in /proc/sys /proc/irq /proc/bus /proc/fs /sys; do [ ! -e $p ] || echo "$p $(stat -f -c %T $p) $(findmnt -no OPTIONS $p | cut -d, -f1)"; done
echo '# network'; LC_ALL=C sed '1,2d; s/:.*//; s/ //g' /proc/net/dev; getent hosts localhost
echo '# end'
"#;

const SEEN: &str = "# environment
DEBCONF_NONINTERACTIVE_SEEN=true
DEBIAN_FRONTEND=noninteractive
HOME=/root
LANG=C.UTF-8
LC_ALL=C.UTF-8
LOGNAME=root
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
PWD=/
PYTHONDONTWRITEBYTECODE=1
PYTHONHASHSEED=0
SHELL=/bin/sh
TERM=dumb
TZ=UTC
USER=root
# process
uid=0(root) gid=0(root) groups=0(root)
0022
imgbuild
/
not a tty
SigBlk:\t0000000000000000
SigIgn:\t0000000000000000
NoNewPrivs:\t0
own
none
/
# descriptors
0
1
2
/dev/null
# limits
Max cpu time unlimited
Max file size unlimited
Max data size unlimited
Max stack size 8388608
Max core file size 0
Max resident set unlimited
Max open files 1024
Max locked memory 8388608
Max address space unlimited
Max file locks unlimited
Max pending signals 65536
Max msgqueue size 819200
Max nice priority 0
Max realtime priority 0
Max realtime timeout unlimited
# devices
 d 755
fd l 777 /proc/self/fd
full c 666
null c 666
ptmx l 777 pts/ptmx
pts d 755
pts/ptmx c 666
random c 666
shm d 1777
stderr l 777 /proc/self/fd/2
stdin l 777 /proc/self/fd/0
stdout l 777 /proc/self/fd/1
tty c 666
urandom c 666
zero c 666
# files
hosts:
127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
hostname:
imgbuild
timezone:
Etc/UTC
default/locale:
LANG=C.UTF-8
0
/usr/share/zoneinfo/Etc/UTC
# masked
/proc/sys proc ro
/proc/irq proc ro
/proc/bus proc ro
/proc/fs proc ro
/sys sysfs ro
# network
lo
::1             localhost ip6-localhost ip6-loopback
# end
";

/// imgbuild on a terminal, with ignored signals, open descriptors, other
/// limits (the soft ones: a machine may not let its root raise the others), another umask, locale, time zone and a full environment.
#[test]
fn a_step_sees_the_same_world_whoever_starts_it() {
    let bench = bench();
    bench.write("world", &format!("[[run]]\nscript = '''{LOOK}'''\n"));
    let program = imgbuild().to_str().unwrap();
    let shell = format!(
        "trap '' HUP INT QUIT PIPE USR1; umask 077; ulimit -S -n 256; ulimit -S -c unlimited; ulimit -S -s 4096
         exec 7</etc/passwd 9>/dev/null; export LC_ALL=tr_TR.UTF-8 TZ=Asia/Kolkata HOME=/nonexistent
         export PYTHONPATH=/x LD_PRELOAD= DEBIAN_FRONTEND=dialog http_proxy=http://127.0.0.1:1 FOO=bar
         exec {program} -v --frozen world.toml"
    );
    let mut script = bench.command(
        "script",
        &[
            "-qec",
            &format!("bash -c \"{}\"", shell.replace('"', "\\\"")),
            "/dev/null",
        ],
    );
    let ran = Ran::of(script.stdin(std::process::Stdio::null())).expect(0);
    let log = bench.imgbuild(&["log", "world.toml"]).expect(0).stdout;
    let at = log.find("# environment\n").expect("the step has printed");
    let end = log[at..].find("# end\n").expect("to its end") + at + 6;
    let seen = &log[at..end];
    for (line, (ours, theirs)) in SEEN.lines().zip(seen.lines()).enumerate() {
        assert_eq!(theirs, ours, "line {line} of\n{seen}");
    }
    assert_eq!(seen, SEEN, "{}", ran.stdout);
}
