//! The scripts of the table's rows that rewrite something.
//!
//! Each is for `sh -eu`, gets the paths as arguments and has `SOURCE_DATE_EPOCH`.
//! Files are written in place, so that owner, mode and links stay.

/// Removes links that point nowhere.
pub(super) const DANGLING: &str = r#"for path; do
    [ -e "$path" ] || rm -f -- "$path"
done
"#;

/// Sorts lines by their third field. Lines without a number in it (of NIS)
/// stay last; of two names for one id, the first stays first.
pub(super) const BY_ID: &str = r#"for file; do
    awk -F: '$3 ~ /^[0-9]+$/' "$file" | LC_ALL=C sort -s -t: -k3,3n > /run/sorted
    awk -F: '$3 !~ /^[0-9]+$/' "$file" >> /run/sorted
    cat /run/sorted > "$file"
done
"#;

/// The same, with the names in the last field sorted.
pub(super) const GROUPS: &str = r#"for file; do
    awk -F: -v OFS=: 'function sorted(list,   n, names, i, j, name) {
        n = split(list, names, ",")
        for (i = 2; i <= n; i++) {
            name = names[i]
            for (j = i - 1; j > 0 && names[j] > name; j--) names[j + 1] = names[j]
            names[j + 1] = name
        }
        list = ""
        for (i = 1; i <= n; i++) list = list (i > 1 ? "," : "") names[i]
        return list
    }
    $3 ~ /^[0-9]+$/ { $4 = sorted($4) } 1' "$file" > /run/members
    awk -F: '$3 ~ /^[0-9]+$/' /run/members | LC_ALL=C sort -s -t: -k3,3n > /run/sorted
    awk -F: '$3 !~ /^[0-9]+$/' /run/members >> /run/sorted
    cat /run/sorted > "$file"
done
"#;

/// The day of the last password change is the day of the build; 0 (to be
/// changed at the next log-in) and nothing stay. Names that passwd lacks are
/// last.
pub(super) const SHADOW: &str = r#"day=$((SOURCE_DATE_EPOCH / 86400))
for file; do
    awk -F: -v OFS=: -v day="$day" '
    NR == FNR { place[$1] = FNR; next }
    { if ($3 != "" && $3 > 0) $3 = day
      print ($1 in place ? place[$1] : 99999999), $0 }' "${file%/*}/passwd" "$file" |
        LC_ALL=C sort -s -t: -k1,1n | cut -d: -f2- > /run/sorted
    cat /run/sorted > "$file"
done
"#;

/// Names that group lacks are last.
pub(super) const GSHADOW: &str = r#"for file; do
    awk -F: -v OFS=: 'function sorted(list,   n, names, i, j, name) {
        n = split(list, names, ",")
        for (i = 2; i <= n; i++) {
            name = names[i]
            for (j = i - 1; j > 0 && names[j] > name; j--) names[j + 1] = names[j]
            names[j + 1] = name
        }
        list = ""
        for (i = 1; i <= n; i++) list = list (i > 1 ? "," : "") names[i]
        return list
    }
    NR == FNR { place[$1] = FNR; next }
    { if (NF >= 4) { $3 = sorted($3); $4 = sorted($4) }
      print ($1 in place ? place[$1] : 99999999), $0 }' "${file%/*}/group" "$file" |
        LC_ALL=C sort -s -t: -k1,1n | cut -d: -f2- > /run/sorted
    cat /run/sorted > "$file"
done
"#;

/// Sorts lines by their second field.
pub(super) const BY_START: &str = r#"for file; do
    LC_ALL=C sort -t: -k2,2n -k1,1 "$file" > /run/sorted
    cat /run/sorted > "$file"
done
"#;

/// The record of a wheel names the file that the table removes.
pub(super) const RECORD: &str = r#"for record; do
    [ -e "${record%/*}/direct_url.json" ] || sed -i '/^[^,]*direct_url\.json,/d' "$record"
done
"#;

/// pyvenv.cfg without the command that made the virtualenv.
pub(super) const PYVENV: &str = r#"sed -i '/^command *=/d' "$@"
"#;

/// What is newer than the epoch gets its time.
pub(super) const CLAMP: &str = r#"find "$@" -maxdepth 0 -type f -newermt "@$SOURCE_DATE_EPOCH" \
    -exec touch --no-dereference -d "@$SOURCE_DATE_EPOCH" -- {} +
"#;

/// A key store of the old format: magic, version, count, entries of tag, name,
/// time, type and certificate, and a digest over a well-known password, a
/// well-known phrase and all before. One with private keys, with a password
/// of its own, or of the new format (which has no times) stays as it is.
pub(super) const KEY_STORE: &str = r#"command -v perl > /dev/null || exit 0
cat > /run/keystore.pl <<'END'
use strict;
my ($file, $epoch) = @ARGV;
my $read = sub { open(my $in, '<:raw', $_[0]) or die; local $/; scalar <$in> };
my $write = sub { open(my $out, '>:raw', $_[0]) or die; print $out $_[1]; close($out) or die };
my $digest = sub {
    my $salt = join('', map { "\0$_" } split(//, 'changeit')) . 'Mighty Aphrodite';
    $write->('/run/keystore.body', $salt . $_[0]);
    `sha1sum /run/keystore.body` =~ /^([0-9a-f]{40})/ or die;
    pack('H*', $1);
};
my $all = $read->($file);
length($all) > 32 or exit 0;
my $body = substr($all, 0, -20);
substr($all, -20) eq $digest->($body) or exit 0;
my ($magic, $version, $count) = unpack('NNN', $body);
$magic == 0xFEEDFEED && $version == 2 or exit 0;
my ($at, %entries) = (12);
for (1 .. $count) {
    my ($tag, $name) = unpack('N n/a', substr($body, $at));
    $tag == 2 or exit 0;
    my $after = $at + 6 + length($name) + 8;
    my ($type, $certificate) = unpack('n/a N/a', substr($body, $after));
    my $rest = pack('n/a N/a', $type, $certificate);
    $entries{$name} = pack('N n/a Q>', 2, $name, $epoch * 1000) . $rest;
    $at = $after + length($rest);
}
$at == length($body) && keys(%entries) == $count or exit 0;
my $new = pack('NNN', $magic, $version, $count) . join('', map { $entries{$_} } sort keys %entries);
$write->($file, $new . $digest->($new));
END
for file; do
    perl /run/keystore.pl "$file" "$SOURCE_DATE_EPOCH"
done
"#;

/// The index of info pages, by the program of Debian that makes it; it takes
/// the pages in the order in which find(1) brings them.
pub(super) const INFO: &str = r#"[ -x /usr/sbin/update-info-dir ] || exit 0
mkdir -p /run/sorted-find
printf '#!/bin/sh\n/usr/bin/find "$@" | LC_ALL=C sort\n' > /run/sorted-find/find
chmod 755 /run/sorted-find/find
for dir; do
    PATH="/run/sorted-find:$PATH" update-info-dir "${dir%/*}"
    rm -f -- "$dir.old"
done
"#;

/// A Berkeley DB: the magic of a hash or a btree at 12, at 52 a file id of 20
/// bytes, once for each database in the file. Postfix notes when it wrote it.
pub(super) const BERKELEY: &str = r#"command -v perl > /dev/null || exit 0
cat > /run/berkeley.pl <<'END'
use strict;
my ($file, $epoch, $digest) = @ARGV;
open(my $in, '<:raw', $file) or die;
my $all = do { local $/; <$in> };
length($all) > 72 or exit 0;
my $magic = unpack('V', substr($all, 12, 4));
$magic == 0x061561 || $magic == 0x053162 or exit 0;
my ($old, $new) = (substr($all, 52, 20), pack('H40', $digest));
$all =~ s/\Q$old\E/$new/g unless $old =~ /^\0+$/;
$all =~ s/[0-9]{10}(?=\x01?YP_LAST_MODIFIED)/sprintf('%010d', $epoch)/ge;
open(my $out, '>:raw', $file) or die;
print $out $all;
close($out) or die;
END
for file; do
    digest=$(printf %s "$file" | sha1sum | cut -c1-40)
    perl /run/berkeley.pl "$file" "$SOURCE_DATE_EPOCH" "$digest"
done
"#;

/// Byte code again, from sources with their final times, in a fixed order.
/// Python 3 compares its source's hash at each import (PEP 552, checked): a
/// source that is changed on a node must run, and 277 modules of Django take
/// 0.172 s of CPU in place of 0.167 s. Python 2 only knows times. Reads the paths from /run/matching; `$virtualenvs` is a file
/// with those of the recipe, whose byte code was not compiled before.
///
/// A .pyc beside no source is a program without its source and stays; one in
/// `__pycache__` is never loaded without it. Names with a newline are beyond
/// compileall's list of files: theirs is not made again.
pub(super) const COMPILE: &str = r#"newline='*
*'
: > /run/sources
tr '\n\0' '\1\n' < /run/matching | LC_ALL=C sort > /run/compiled
while IFS= read -r pyc; do
    case "$pyc" in
        */__pycache__/*) ;;
        *) [ -e "${pyc%c}" ] || continue ;;
    esac
    printf '%s\n' "$pyc"
done < /run/compiled > /run/again
while IFS= read -r venv; do
    interpreter=$(readlink -f "$venv/bin/python")
    find "$venv/lib" -type f -name '*.py' ! -path "$newline" | sed "s|^|$interpreter |" >> /run/sources
done < "$virtualenvs"
# X/__pycache__/name.cpython-39.pyc comes from X/name.py, X/name.pyc from X/name.py.
LC_ALL=C grep -v "$(printf '\001')" /run/again > /run/named || [ $? = 1 ]
sed -n -E 's|^(.*)/__pycache__/([^/]+)\.cpython-([0-9])([0-9]+)(\.opt-[0-9])?\.pyc$|python\3.\4 \1/\2.py|p' \
    /run/named >> /run/sources
sed -n -E '\|/__pycache__/|! s|^(.*)\.pyc$|python2.7 \1.py|p' /run/named >> /run/sources
tr '\1\n' '\n\0' < /run/again | xargs -0 -r rm -f --
LC_ALL=C sort -u /run/sources > /run/all
apart=/imgbuild-byte-code
for name in $(cut -d' ' -f1 /run/all | LC_ALL=C sort -u); do
    interpreter=$(command -v -- "$name") || continue
    # Packages ship templates and tests that are no valid source.
    sed -n "s|^$name ||p" /run/all | while IFS= read -r source; do
        if [ -f "$source" ]; then printf '%s\n' "$source"; fi
    done > /run/list
    [ -s /run/list ] || continue
    # Eight parts whatever the machine: byte code may follow what its compiler
    # read before. None of them empty: that means all modules there are.
    split -e -n l/8 /run/list /run/part.
    tag=$("$interpreter" -X pycache_prefix="$apart" -c "import sys
print(sys.pycache_prefix and sys.implementation.cache_tag or '')" 2> /run/compile.log) || tag=
    if [ -z "$tag" ]; then
        case "$interpreter" in
            *python2*) options= ;;
            *) options='--invalidation-mode checked-hash' ;;
        esac
        printf '%s\n' /run/part.* | env -u PYTHONDONTWRITEBYTECODE xargs -r -n 1 -P "$(nproc)" \
            "$interpreter" -m compileall -q $options -i > /run/compile.log 2>&1 || true
        rm -f /run/part.*
        continue
    fi
    # And whether it read source or byte code: so each part has a directory of its own for
    # byte code, which begins with that of the compiler, and none sees what others write.
    mkdir -p "$apart/compiler" "$apart/nothing"
    env -u PYTHONDONTWRITEBYTECODE "$interpreter" -X pycache_prefix="$apart/compiler" \
        -m compileall -q "$apart/nothing" > /run/compile.log 2>&1 || true
    for part in /run/part.*; do cp -a "$apart/compiler" "$apart/${part##*.}"; done
    printf '%s\n' /run/part.* | sed 's|.*\.||' | xargs -r -P "$(nproc)" -I @ \
        "$interpreter" -X pycache_prefix="$apart/@" -m compileall -q \
        --invalidation-mode checked-hash -i /run/part.@ > /run/compile.log 2>&1 || true
    for part in /run/part.*; do
        sed -E "s|^/(.*)\.py\$|\1.$tag.pyc|" "$part" > /run/written
        tar -C "$apart/${part##*.}" --ignore-failed-read --verbatim-files-from -cf - \
            --transform 's|\([^/]*\)$|__pycache__/\1|' -T /run/written 2> /run/compile.log |
            tar -C / --keep-directory-symlink -xf -
    done
    rm -rf "$apart" /run/part.*
done
# New byte code belongs to whom the directory of its source belongs to.
find / -xdev -type d \( ! -uid 0 -o ! -gid 0 \) ! -path "$newline" -printf '%U:%G %p\n' |
    while read -r owner dir; do
        (cd -- "$dir" && find . -maxdepth 2 -uid 0 -gid 0 \( -path ./__pycache__ \
            -o -path './__pycache__/*.pyc' -o -path './*.pyc' ! -path './*/*' \) \
            -exec chown -h -- "$owner" {} +)
    done
"#;
