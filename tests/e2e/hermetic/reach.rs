//! A step that needs something undeclared fails and says what it tried to reach.

use tests::bench::bench;

/// The line of the error that says it.
fn reached(stderr: &str) -> Option<&str> {
    stderr
        .lines()
        .find_map(|line| line.strip_prefix("  it tried to reach "))
}

#[test]
fn a_failed_step_names_what_it_tried_to_reach() {
    let bench = bench();
    let ran = bench
        .build_step(
            "reaches",
            "getent ahosts mirror.example || true
             runuser -u www-data -- bash -c '</dev/tcp/192.0.2.7/443' || true
             bash -c '</dev/tcp/192.0.2.7/443' || true
             bash -c '</dev/tcp/2001:db8::1/80' || true
             bash -c '</dev/tcp/127.0.0.1/80' || true
             exit 5",
            "",
        )
        .expect(1);
    assert_eq!(
        reached(&ran.stderr),
        Some("mirror.example (name lookup), 192.0.2.7 port 443, 2001:db8::1 port 80"),
        "{}",
        ran.stderr
    );
    assert!(
        ran.stderr.contains("\nhint: steps have no network: "),
        "{}",
        ran.stderr
    );

    // apt, as somebody would write it.
    let apt = "echo 'deb [trusted=yes] http://packages.example/debian bookworm main' > /etc/apt/sources.list
               apt-get -q update; apt-get -q -y install hello";
    let ran = bench.build_step("asks-apt", apt, "").expect(1);
    assert_eq!(
        reached(&ran.stderr),
        Some("packages.example (name lookup)"),
        "{}",
        ran.stderr
    );
}

#[test]
fn what_is_told_is_bounded_and_only_after_a_failure() {
    let bench = bench();
    let many = "i=0; while [ $i -lt 40 ]; do getent hosts host$i.example || i=$((i+1)); done";
    let ran = bench
        .build_step(
            "reaches-on",
            &format!("{many}; sleep 600"),
            "timeout = \"9s\"\n",
        )
        .expect(1);
    let told = reached(&ran.stderr).expect("a step that hangs tells as well");
    assert!(told.starts_with("host0.example (name lookup), "), "{told}");
    assert!(
        told.ends_with("host9.example (name lookup), more"),
        "{told}"
    );

    // Its own server on its own loopback, and a failure that is none.
    let own = "perl -MIO::Socket::INET -e '
        my $server = IO::Socket::INET->new(LocalAddr => \"127.0.0.1\", LocalPort => 53, Listen => 1) or die;
        my $client = IO::Socket::INET->new(\"127.0.0.1:53\") or die;
        print $client \"x\\n\"; print scalar readline($server->accept)'
        getent hosts mirror.example || true";
    let ran = bench.build_step("reaches-itself", own, "").expect(0);
    assert_eq!(reached(&ran.stderr), None);
}
