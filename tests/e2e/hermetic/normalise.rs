//! Each row of `docs/normalisation.md`: what it is about is planted in a tree,
//! and a test of the recipe looks at what the last step made of it.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;

use tests::bench::bench;
use tests::binaries::repository;

/// A row of the page: path, what happens, why.
struct Row {
    path: String,
    action: String,
}

fn rows() -> Vec<Row> {
    let page = repository().join("docs/normalisation.md");
    let page = fs::read_to_string(page).expect("the page is there");
    let rows: Vec<Row> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| `"))
        .map(|line| {
            let (path, rest) = line.split_once("` | ").expect("a path in backticks");
            let action = rest.split(" | ").next().expect("an action");
            Row {
                path: path.to_owned(),
                action: action.to_owned(),
            }
        })
        .collect();
    assert!(rows.len() > 50, "{}", rows.len());
    rows
}

/// A path that a pattern is about.
fn example(pattern: &str) -> String {
    pattern
        .replace("/**/", "/srv/deep/")
        .replace("**", "planted/deep")
        .replace('*', "planted")
        .replace('?', "1")
}

/// What is rewritten is planted by hand: for each row a piece of the scripts
/// below.
const REWRITTEN: [&str; 15] = [
    "/etc/ssl/certs/*",
    "/etc/passwd",
    "/etc/group",
    "/etc/shadow",
    "/etc/gshadow",
    "/etc/subuid",
    "/etc/subgid",
    "/usr/share/info/dir",
    "/etc/aliases.db",
    "/etc/postfix/*.db",
    "/etc/ssl/certs/java/cacerts",
    "/**/*.dist-info/RECORD",
    "/**/pyvenv.cfg",
    "/**/*.py",
    "/**/*.pyc",
];

const PLANT: &str = r#"
plant() {
    if [ -d "$1" ]; then set -- "$1/planted"; fi
    mkdir -p -- "$(dirname -- "$1")"
    printf planted > "$1"
}

# Names that are hard to carry, and neighbours of rows.
plant "/tmp/two
lines"
plant "$(printf '/tmp/\377')"
plant "/srv/x
/tmp/stays"
plant /var/log/app/stays.log
plant /etc/machine-id-stays
plant /var/log/kept.log
plant /root/.cache/app/kept
plant /root/.cache/other/gone
plant /srv/gone/deep/file
plant /srv/gone/kept

# Certificates and their aliases.
mkdir -p /etc/ssl/certs
ln -s ssl-cert-snakeoil.pem /etc/ssl/certs/11111111.0
plant /etc/ssl/certs/real.pem
ln -s real.pem /etc/ssl/certs/22222222.0

# Users in no order.
groupadd -g 2009 late; groupadd -g 2002 early
useradd -u 2009 -g late -K SUB_UID_MIN=400000 -K SUB_GID_MIN=400000 late
useradd -u 2002 -g early -K SUB_UID_MIN=300000 -K SUB_GID_MIN=300000 early
usermod -aG late,early late; usermod -aG early www-data; usermod -aG early backup
chage -d 0 late; chage -d 2001-02-03 early
printf '+::::::\n' >> /etc/passwd
for file in shadow gshadow subuid subgid; do tac /etc/$file > /tmp/x; cat /tmp/x > /etc/$file; done

# An index that follows the order of a directory.
mkdir -p /usr/share/info
plant /usr/share/info/b.info; plant /usr/share/info/a.info
printf '#!/bin/sh\ncp "$1/dir" "$1/dir.old"; find "$1" -name "*.info" > "$1/dir"\n' > /usr/sbin/update-info-dir
chmod 755 /usr/sbin/update-info-dir
printf 'b\na\n' > /usr/share/info/dir

# A Berkeley DB with its id twice and a time.
mkdir -p /etc/postfix /etc/ssl/certs/java
perl -e 'print pack("x12 V x36 a20 x8 a20 a*", 0x061561, "id of the file abcde", "id of the file abcde", "1795379007\1YP_LAST_MODIFIED")' > /etc/aliases.db
cp /etc/aliases.db /etc/postfix/virtual.db

# A key store of Java with two certificates.
perl -e 'my $t = 1234567890123; print pack("NNN", 0xFEEDFEED, 2, 2), map { pack("N n/a Q> n/a N/a", 2, $_, $t++, "X.509", "certificate of $_") } qw(zeta alpha)' > /tmp/body
perl -e 'print join("", map { "\0$_" } split(//, "changeit")), "Mighty Aphrodite"' > /tmp/salted
cat /tmp/body >> /tmp/salted
{ cat /tmp/body; sha1sum /tmp/salted | cut -c1-40 | perl -ne 'chomp; print pack("H*", $_)'; } > /etc/ssl/certs/java/cacerts

# Python: an interpreter that compiles by writing down what it was given.
printf '%s\n' '#!/bin/sh' 'for last; do :; done' 'echo "$*" > /srv/how' 'while read -r source; do
dir=${source%%/*}; name=${source##*/}; mkdir -p "$dir/__pycache__"
echo "of $source" > "$dir/__pycache__/${name%%.py}.cpython-399.pyc"
done < "$last"' > /usr/local/bin/python3.99
sed -i 's/%%/%/g' /usr/local/bin/python3.99
chmod 755 /usr/local/bin/python3.99
site=/srv/venv/lib/python3.99/site-packages
mkdir -p $site/pack-1.dist-info $site/pack/__pycache__ /srv/two
printf 'home = /usr/bin\ncommand = /usr/bin/python3 -m venv /x\nversion = 3.99\n' > /srv/venv/pyvenv.cfg
printf 'pack/a.py,sha256=0,1\npack-1.dist-info/direct_url.json,sha256=1,2\npack-1.dist-info/RECORD,,\n' > $site/pack-1.dist-info/RECORD
plant $site/pack-1.dist-info/direct_url.json
plant $site/pack/a.py; plant $site/pack/__pycache__/a.cpython-399.pyc; plant $site/pack/__pycache__/left.cpython-399.pyc
touch -d @1000000000 $site/pack/old.py
plant /srv/two/both.py; plant /srv/two/both.pyc; plant /srv/two/only.pyc
plant "/srv/two/__pycache__/new
line.cpython-399.pyc"
chown -R 2002:2009 $site
"#;

const CHECK: &str = r#"
bad=0
check() { what=$1; shift; "$@" || { echo "wrong: $what"; bad=1; }; }
gone() { if [ -e "$1" ] || [ -L "$1" ]; then echo "still there: $1"; bad=1; fi; }
there() { [ -e "$1" ] || { echo "gone: $1"; bad=1; }; }
blank() { if [ ! -f "$1" ] || [ -s "$1" ]; then echo "not empty: $1"; bad=1; fi; }
same() { [ "$2" = "$3" ] || { printf '%s: %s\nbut wanted: %s\n' "$1" "$2" "$3"; bad=1; }; }

check 'nothing in /tmp' test -z "$(find /tmp -mindepth 1)"
there "/srv/x
/tmp/stays"
there /var/log/app/stays.log
there /etc/machine-id-stays
there /var/log/kept.log
there /root/.cache/app/kept
gone /root/.cache/other
gone /srv/gone/deep
there /srv/gone/kept

gone /etc/ssl/certs/11111111.0
there /etc/ssl/certs/22222222.0

check 'passwd by id' sh -c 'sed \$d /etc/passwd | cut -d: -f3 | sort -n -c'
same 'the line of NIS' "$(tail -n1 /etc/passwd)" +::::::
check 'group by id' sh -c 'cut -d: -f3 /etc/group | sort -n -c'
same members "$(grep ^early: /etc/group)" early:x:2002:backup,late,www-data
same shadow "$(cut -d: -f1 /etc/shadow)" "$(sed \$d /etc/passwd | cut -d: -f1)"
same gshadow "$(cut -d: -f1 /etc/gshadow)" "$(cut -d: -f1 /etc/group)"
same 'members of gshadow' "$(grep ^early: /etc/gshadow)" 'early:!::backup,late,www-data'
day=$((SOURCE_DATE_EPOCH / 86400))
same 'last change' "$(grep ^early: /etc/shadow | cut -d: -f3)" $day
same 'must change' "$(grep ^late: /etc/shadow | cut -d: -f3)" 0
same 'all days' "$(cut -d: -f3 /etc/shadow | sort -u | tr '\n' ' ')" "0 $day "
same 'mode of shadow' "$(stat -c %a:%U:%G /etc/shadow)" 640:root:shadow
for file in subuid subgid; do
    same $file "$(cut -d: -f1 /etc/$file | tr '\n' ' ')" 'early late '
done

same 'info pages' "$(cat /usr/share/info/dir)" "$(printf '/usr/share/info/a.info\n/usr/share/info/b.info')"
gone /usr/share/info/dir.old

for file in /etc/aliases.db /etc/postfix/virtual.db; do
    id=$(printf %s $file | sha1sum | cut -c1-40)
    perl -e 'print pack("x12 V x36 H40 x8 H40 a*", 0x061561, $ARGV[0], $ARGV[0], sprintf("%010d\1YP_LAST_MODIFIED", $ARGV[1]))' $id $SOURCE_DATE_EPOCH > /tmp/wanted
    check $file cmp $file /tmp/wanted
done
perl -e 'my $t = 1000 * $ARGV[0]; print pack("NNN", 0xFEEDFEED, 2, 2), map { pack("N n/a Q> n/a N/a", 2, $_, $t, "X.509", "certificate of $_") } qw(alpha zeta)' $SOURCE_DATE_EPOCH > /tmp/body
perl -e 'print join("", map { "\0$_" } split(//, "changeit")), "Mighty Aphrodite"' > /tmp/salted
cat /tmp/body >> /tmp/salted
{ cat /tmp/body; sha1sum /tmp/salted | cut -c1-40 | perl -ne 'chomp; print pack("H*", $_)'; } > /tmp/wanted
check 'key store' cmp /etc/ssl/certs/java/cacerts /tmp/wanted

site=/srv/venv/lib/python3.99/site-packages
same pyvenv.cfg "$(cat /srv/venv/pyvenv.cfg)" "$(printf 'home = /usr/bin\nversion = 3.99')"
same RECORD "$(cat $site/pack-1.dist-info/RECORD)" "$(printf 'pack/a.py,sha256=0,1\npack-1.dist-info/RECORD,,')"
same 'time of a source' "$(stat -c %Y $site/pack/a.py)" $SOURCE_DATE_EPOCH
same 'time of an old source' "$(stat -c %Y $site/pack/old.py)" 1000000000
same 'byte code' "$(cat $site/pack/__pycache__/a.cpython-399.pyc)" "of $site/pack/a.py"
same 'its owner' "$(stat -c %u:%g $site/pack/__pycache__/a.cpython-399.pyc)" 2002:2009
gone $site/pack/__pycache__/left.cpython-399.pyc
same 'how' "$(cut -d' ' -f1-5 /srv/how)" '-m compileall -q --invalidation-mode checked-hash'
gone /srv/two/both.pyc
there /srv/two/only.pyc
check 'no __pycache__ with lines' test -z "$(find /srv/two/__pycache__ -type f)"
"#;

#[test]
fn each_row_of_the_table_does_what_the_page_says() {
    let bench = bench();
    let (mut plant, mut check) = (PLANT.to_owned(), CHECK.to_owned());
    let mut rewritten = BTreeSet::new();
    for row in rows() {
        let path = example(&row.path);
        match row.action.split(':').next() {
            Some("removed") => {
                let _ = writeln!(plant, "plant '{path}'");
                // One is there again at each entry, in the other something is kept.
                if !["/etc/debian_chroot", "/root/.cache"].contains(&path.as_str()) {
                    let _ = writeln!(check, "gone '{path}'");
                }
            }
            Some("emptied") => {
                let _ = writeln!(plant, "plant '{path}'");
                let _ = writeln!(check, "blank '{path}'");
            }
            Some("rewritten" | "compiled again, without times") => {
                rewritten.insert(row.path);
            }
            // Mount points; a step cannot reach below them. The rest is no
            // work of the last step.
            Some("cleared" | "never differs") => {}
            other => panic!("{other:?}"),
        }
    }
    let known: BTreeSet<String> = REWRITTEN.map(str::to_owned).into_iter().collect();
    assert_eq!(rewritten, known);
    bench.write(
        "planted",
        &format!(
            "[clean]\nkeep = [\"/var/log/kept.log\", \"/root/.cache/app/**\", \"/srv/gone/kept\"]\n\
             remove = [\"/srv/gone/**\"]\n\
             [[run]]\nname = \"plant\"\nscript = '''{plant}'''\n\
             [[test]]\nname = \"look\"\nscript = '''{check}\nexit $bad'''\n"
        ),
    );
    bench.imgbuild(&["--frozen", "planted.toml"]).expect(0);
}
