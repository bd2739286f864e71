//! Byte code is of one kind, whatever its compilers read on their way.

use std::fs;

use tests::bench::python_bench;
use tests::binaries::Ran;

/// A source that is compiled first and in an encoding of its own, whose module its compiler
/// imports while another compiles that very module.
const STEP: &str = "
mkdir -p /opt/app
printf '# -*- coding: koi8_t -*-\\nNAME = 1\\n' > /opt/app/first.py
python3 -m compileall -q /opt/app
";

#[test]
fn what_a_compiler_imports_is_compiled_like_all_else() {
    let bench = python_bench();
    bench.build_step("coded", STEP, "").expect(0);
    bench
        .imgbuild(&["export", "coded", "-o", "coded.tar"])
        .expect(0);
    let unpack = "mkdir tree && tar -C tree -xf coded.tar --wildcards '*.pyc' && find tree -type f";
    let found = Ran::of(&mut bench.command("sh", &["-c", unpack]))
        .expect(0)
        .stdout;
    for name in [
        "opt/app/__pycache__/first.",
        "/encodings/__pycache__/koi8_t.",
    ] {
        let path = found.lines().find(|path| path.contains(name)).unwrap();
        let bytes = fs::read(bench.path(path)).unwrap();
        // PEP 552: flags behind the magic number; 3 for a checked hash of the source.
        assert_eq!(bytes[4..8], [3, 0, 0, 0], "{path}");
    }
}
