//! uv decides where it can, pip where uv is not: the same files, and the same that stay.

use tests::bench::python_bench;
use tests::index::Packages;

use super::{lock_from, locked, write_virtualenv};

/// What the log says when uv had an answer.
const DECIDED: &str = "uv decided";

#[test]
fn uv_and_pip_take_the_same_files() {
    let bench = python_bench();
    let mut packages = Packages::default();
    for version in ["1.0", "1.5", "2.0", "3.0rc1"] {
        packages.wheel("alpha", version, &[]);
    }
    packages.mark("alpha-1.5-py3-none-any.whl", "data-yanked");
    packages.wheel("beta", "1.0", &["alpha<2"]);
    packages.source("gamma", "1.0", "");
    // Of two wheels, the one for this Python; of none that fits, the source.
    for tag in ["cp311-none-any", "cp27-none-any"] {
        packages.wheel("delta", "1.0", &[]);
        packages.rename(
            "delta-1.0-py3-none-any.whl",
            &format!("delta-1.0-{tag}.whl"),
        );
    }
    packages.wheel("delta", "1.0", &[]);
    packages.wheel("gamma", "1.0", &[]);
    packages.rename("gamma-1.0-py3-none-any.whl", "gamma-1.0-cp27-none-any.whl");
    let server = packages.serve(None);
    std::fs::create_dir(bench.path("home")).unwrap();
    let lock = |name: &str, requirements: &str, more: &[&str]| {
        // Writing a recipe takes its lock back.
        let kept = bench.path(&format!("{name}.lock"));
        let old = std::fs::read(&kept).ok();
        write_virtualenv(&bench, name, &format!("requirements = [{requirements}]"));
        if let Some(old) = old {
            std::fs::write(&kept, old).unwrap();
        }
        let file = format!("{name}.toml");
        let words = [&["lock", "--verbose", &file], more].concat();
        lock_from(&bench, &server, &words).expect(0).stderr
    };
    let all = "\"beta\", \"gamma\", \"delta\"";
    let said = lock("by-uv", all, &[]);
    assert!(said.contains(DECIDED), "{said}");
    let files = "alpha-1.0-py3-none-any.whl beta-1.0-py3-none-any.whl \
                 delta-1.0-cp311-none-any.whl gamma-1.0.tar.gz";
    assert_eq!(locked(&bench, "by-uv"), files);
    // Beta gone, alpha need not be old; but it is locked, and is asked of the index whether it was
    // withdrawn, and for nothing else.
    let before = server.requests().len();
    let said = lock("by-uv", "\"alpha\", \"gamma\"", &[]);
    assert!(said.contains(DECIDED), "{said}");
    assert_eq!(
        locked(&bench, "by-uv"),
        "alpha-1.0-py3-none-any.whl gamma-1.0.tar.gz"
    );
    let asked = server.requests().split_off(before);
    assert!(!asked.is_empty());
    for request in asked {
        assert!(request.path.starts_with("/simple/"), "{}", request.path);
    }
    // What is in the way moves alone.
    lock("by-uv", "\"alpha>1.6\", \"gamma\"", &[]);
    let moved = "alpha-2.0-py3-none-any.whl gamma-1.0.tar.gz";
    assert_eq!(locked(&bench, "by-uv"), moved);
    let said = lock("by-uv", "\"alpha==1.5\", \"gamma\"", &[]);
    assert!(said.contains("alpha 1.5 was yanked"), "{said}");
    // What was yanked stays locked, and is spoken of.
    let said = lock("by-uv", "\"alpha\", \"gamma\"", &[]);
    assert!(said.contains("alpha 1.5 was yanked"), "{said}");
    lock("by-uv", "\"alpha\", \"gamma\"", &["--upgrade=alpha"]);
    assert_eq!(locked(&bench, "by-uv"), moved);
    // An index without uv: pip decides, and that is said.
    std::fs::remove_dir_all(bench.path("work/tools")).unwrap();
    let said = lock("by-pip", all, &[]);
    assert!(!said.contains(DECIDED), "{said}");
    assert!(said.contains("pip resolves, which takes longer"), "{said}");
    assert_eq!(locked(&bench, "by-pip"), files);
}
