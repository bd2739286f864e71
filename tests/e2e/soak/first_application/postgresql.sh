# The page's application with its database in PostgreSQL, in a machine of its own: a network with
# nothing but itself, and empty places. It is upgraded and rolled back while others write and read.
# Reads ACTS, the number of switches, and REQUESTS, how many must have been answered at least.
set -eu
ip link set lo up
pg=$(ls -d /usr/lib/postgresql/*/bin | tail -n 1)
password=$(openssl rand -hex 24)
end() {
    touch ended
    wait || :
    imgnode stop Notes > /dev/null 2>&1 || :
    runuser -u postgres -- "$pg/pg_ctl" -D "$PWD/pg/data" -m immediate stop > /dev/null 2>&1 || :
}
trap end EXIT

# The server that the node reaches over TCP.
install -d -o postgres -g postgres -m 0700 pg
printf %s "$password" > pg/password
chown postgres pg/password
runuser -u postgres -- "$pg/initdb" -D "$PWD/pg/data" --auth=scram-sha-256 \
    --username=notes --pwfile="$PWD/pg/password" > pg.log
rm pg/password
runuser -u postgres -- "$pg/pg_ctl" -D "$PWD/pg/data" -w -l "$PWD/pg/log" \
    -o "-c listen_addresses=127.0.0.1 -k $PWD/pg" start > /dev/null
PGPASSWORD=$password psql -q -h 127.0.0.1 -U notes -d postgres -c 'CREATE DATABASE notes'

imgnode init --env dev --repo "$PWD/first" --root first/env/dev/metadata/1.root.json
imgnode install django --as Notes --target dir:/srv/imgnode
install -d -m 0700 /etc/imgnode/secrets/Notes
printf %s "$password" > /etc/imgnode/secrets/Notes/database-password
openssl rand -base64 48 > /etc/imgnode/secrets/Notes/django-secret-key
chmod 0600 /etc/imgnode/secrets/Notes/*
cat > /etc/imgnode/Notes.toml <<'END'
[environment]
ALLOWED_HOSTS = "127.0.0.1"
DATABASE_HOST = "127.0.0.1"
END
imgnode start Notes --listen 127.0.0.1:8000
url=http://127.0.0.1:8000

# Who writes: notes with attachments, one after the other. What was answered must be there for ever.
mkdir sent
write() {
    number=0
    while ! [ -e ended ]; do
        number=$((number + 1))
        head -c 3000 /dev/urandom > "sent/$number"
        curl --silent --show-error --fail --max-time 120 -F "text=note $number" \
            -F "attachment=@sent/$number" "$url/" > "sent/$number.answer" || {
            echo "note $number was not taken" >> failures
            break
        }
    done
}
# Who reads: wrk counts what is not answered, and what is not answered well.
: > answered
read_all() {
    while ! [ -e ended ]; do
        wrk --threads 2 --connections 16 --duration 5s --timeout 60s "$url/version" > wrk.txt 2>&1
        ! grep -q 'Socket errors\|Non-2xx' wrk.txt || cat wrk.txt >> failures
        sed -n 's/^ *\([0-9]*\) requests in .*/\1/p' wrk.txt >> answered
    done
}
write &
read_all &

mv first old
mv second first
act=0
while [ "$act" -lt "$ACTS" ]; do
    act=$((act + 1))
    case $act in
        1) imgnode upgrade Notes ;;
        *) if [ $((act % 2)) = 0 ]; then imgnode rollback Notes; else imgnode switch Notes 2; fi ;;
    esac
    generation=$((2 - (act + 1) % 2))
    curl --silent --fail "$url/version" | grep -qx "1.$((generation - 1))"
done
while [ "$(awk '{ sum += $1 } END { print sum + 0 }' answered)" -lt "$REQUESTS" ] && ! [ -e failures ]; do
    sleep 1
done
touch ended
wait
! [ -e failures ] || { cat failures; exit 1; }

# No upload is lost.
uploads=0
for answer in sent/*.answer; do
    number=$(jq .number "$answer")
    curl --silent --fail "$url/notes/$number/attachment" | cmp - "${answer%.answer}"
    uploads=$((uploads + 1))
done
[ "$uploads" -gt 0 ]
# The password is where it was given, and nowhere else.
! grep -rlF -e "$password" /srv/imgnode /var/lib/imgnode old first pg.log > found || { cat found; exit 1; }
! grep -lzF -e "$password" /proc/[0-9]*/environ /proc/[0-9]*/cmdline 2> /dev/null > found ||
    { cat found; exit 1; }
imgnode logs Notes > log
! grep -qF -e "$password" log
imgnode verify Notes
imgnode stop Notes
imgnode uninstall Notes
echo "$ACTS switches, $(awk '{ sum += $1 } END { print sum }' answered) answers, $uploads uploads"
