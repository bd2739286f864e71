//! Recipes, good and bad, through the public API.
//!
//! `recipe/bad/NAME.toml` must fail with exactly `NAME.stderr`. After a wanted
//! change of a message, `IMGBUILD_BLESS=1 cargo test -p builder --test recipe` writes the
//! files anew; read the difference before committing it.

use std::fs;
use std::path::{Path, PathBuf};

use builder::recipe::{Beside, Recipe, RecipeError, RecipeErrorKind};

use crate::schema::sections;

fn fixtures(directory: &str) -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join(directory);
    let mut paths: Vec<_> = fs::read_dir(&directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "toml")
        })
        .collect();
    paths.sort();
    assert!(!paths.is_empty(), "no recipes in {}", directory.display());
    paths
}

/// The error as the command prints it, with the recipe's path shortened.
fn shown(error: &RecipeError, directory: &Path) -> String {
    let prefix = format!("{}/", directory.display());
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let tests = format!("{}/", tests.canonicalize().unwrap().display());
    let mut text = format!("error: {error}\n")
        .replace(&prefix, "")
        .replace(&tests, ".../");
    if let Some(hint) = error.hint() {
        text.push_str(&format!("hint: {hint}\n").replace(&prefix, ""));
    }
    text
}

#[test]
fn line_ends_of_another_system_do_not_reach_scripts() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.toml");
    let text = "name = \"x\"\r\n[bootstrap]\r\nsuite = \"bookworm\"\r\n\
                [[run]]\r\nscript = \"\"\"\r\ntrue\r\nfalse\r\n\"\"\"\r\n";
    fs::write(&path, text).unwrap();
    let recipe = Recipe::load(&path).unwrap();
    assert_eq!(recipe.runs[0].script.as_str(), "true\nfalse\n");
}

#[test]
fn bad_recipes_say_what_is_wrong_and_where() {
    let bless = std::env::var_os("IMGBUILD_BLESS").is_some();
    let mut wrong = Vec::new();
    for path in fixtures("tests/recipe/bad") {
        let Err(error) = Recipe::load(&path) else {
            wrong.push(format!("{} was accepted", path.display()));
            continue;
        };
        let shown = shown(&error, path.parent().unwrap());
        let expected = path.with_extension("stderr");
        if bless {
            fs::write(&expected, &shown).unwrap();
        }
        let expected = fs::read_to_string(&expected).unwrap_or_default();
        if shown != expected {
            wrong.push(format!(
                "{}\n-- expected\n{expected}-- got\n{shown}",
                path.display()
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn users_that_a_package_makes_own_files_and_run_things() {
    let dir = tempfile::tempdir().unwrap();
    let load = |packages: &str| {
        let text = format!(
            "name = \"x\"\n[bootstrap]\nsuite = \"bookworm\"\n{packages}\n\
             [[file]]\npath = \"/etc/x\"\ncontent = \"\"\nowner = \"redis:ssl-cert\"\n\
             [[run]]\nscript = \"true\"\nuser = \"postgres\"\n\
             [[test]]\nname = \"t\"\ncommand = [\"/bin/true\"]\nuser = \"redis\"\n\
             [service]\nstart = [\"/bin/true\"]\nuser = \"redis\"\n"
        );
        let path = dir.path().join("x.toml");
        fs::write(&path, text).unwrap();
        Recipe::load(&path)
    };
    load("include = [\"redis-server\"]").unwrap();
    load("[[packages]]\ninstall = [\"redis-server\"]").unwrap();
    // Without packages nobody makes them.
    for nothing in ["", "[[packages]]\npurge = [\"nano\"]"] {
        let error = load(nothing).unwrap_err().to_string();
        assert!(error.contains("there is no user `redis`"), "{error}");
    }
}

#[test]
fn no_error_shows_a_secret() {
    let mut seen = 0;
    for path in fixtures("tests/recipe/bad") {
        let name = path.file_stem().unwrap().to_str().unwrap();
        if name.contains("credentials") {
            let error = Recipe::load(&path).unwrap_err();
            let text = format!("{error}\n{:?}\n{error:?}", error.hint());
            assert!(!text.contains("secret"), "{name}: {text}");
            seen += 1;
        }
    }
    assert!(seen >= 3);
}

#[test]
fn errors_have_their_kind() {
    let kind = |name: &str| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/recipe/bad")
            .join(name);
        Recipe::load(&path).unwrap_err().kind()
    };
    assert_eq!(kind("syntax-octal.toml"), RecipeErrorKind::Syntax);
    assert_eq!(kind("key-unknown.toml"), RecipeErrorKind::Invalid);
    assert_eq!(kind("beside-missing.toml"), RecipeErrorKind::Beside);
    assert_eq!(kind("no-such.toml"), RecipeErrorKind::Unreadable);
    assert_eq!(kind("files"), RecipeErrorKind::Unreadable);
}

#[test]
fn what_is_no_text_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("r.toml");
    fs::write(&path, b"name = \"x\"\ndescription = \"\xff\"\n").unwrap();
    let error = Recipe::load(&path).unwrap_err();
    assert_eq!(error.position(), Some((2, 16)), "{error}");
    fs::write(&path, vec![b'#'; (1 << 20) + 1]).unwrap();
    let error = Recipe::load(&path).unwrap_err();
    assert!(error.message().contains("too long"), "{error}");
}

#[test]
fn the_recipes_of_this_repository_load() {
    for path in fixtures("../recipes") {
        if let Err(error) = Recipe::load(&path) {
            panic!("{}", shown(&error, path.parent().unwrap()));
        }
    }
}

#[test]
fn what_a_recipe_uses_beside_it_is_known() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../recipes/fanery.toml");
    let recipe = Recipe::load(&path).unwrap();
    let uses: Vec<_> = recipe.besides().into_iter().map(Beside::as_str).collect();
    assert_eq!(uses, ["fanery/skel", "fanery/project", "fanery/myproject"]);
}

/// Each `good/NAME.toml` has a `good/NAME.json`: all of its defaults.
#[test]
fn good_recipes_mean_their_canonical_form() {
    let bless = std::env::var_os("IMGBUILD_BLESS").is_some();
    for path in fixtures("tests/recipe/good") {
        let recipe = Recipe::load(&path).unwrap_or_else(|error| panic!("{error}"));
        let value: serde_json::Value = serde_json::from_slice(&recipe.canonical_json()).unwrap();
        let pretty = format!("{value:#}\n");
        let expected = path.with_extension("json");
        if bless {
            fs::write(&expected, &pretty).unwrap();
        }
        assert_eq!(
            pretty,
            fs::read_to_string(&expected).unwrap(),
            "{}",
            path.display()
        );
    }
}

/// Pairs `good/NAME.toml` and `good/NAME.spelled.toml` mean the same.
#[test]
fn comments_order_and_spelled_defaults_change_nothing() {
    let load = |path: &Path| Recipe::load(path).unwrap_or_else(|error| panic!("{error}"));
    let mut pairs = 0;
    for spelled in fixtures("tests/recipe/good") {
        let name = spelled.file_name().unwrap().to_str().unwrap();
        let Some(stem) = name.strip_suffix(".spelled.toml") else {
            continue;
        };
        let terse = spelled.with_file_name(format!("{stem}.toml"));
        assert_eq!(
            String::from_utf8(load(&terse).canonical_json()),
            String::from_utf8(load(&spelled).canonical_json()),
        );
        pairs += 1;
    }
    assert!(pairs > 0);
}

#[test]
fn the_normal_form_of_a_recipe_is_a_recipe() {
    for directory in ["../recipes", "tests/recipe/good"] {
        for path in fixtures(directory) {
            let recipe = Recipe::load(&path).unwrap();
            let written = toml::to_string(&recipe).unwrap();
            let again = Recipe::parse(&written, &path).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(recipe, again, "{}", path.display());
        }
    }
}

/// A recipe with one key of a section: what it lacks besides is another error.
#[test]
fn every_key_is_explained_by_an_example_that_it_takes() {
    let mut keys = 0;
    for section in sections() {
        for key in &section.keys {
            keys += 1;
            let place = format!("`{}` in {:?}", key.name, section.header);
            assert!(!key.doc.is_empty(), "{place}");
            if key.is_section {
                continue;
            }
            let example = key
                .example()
                .unwrap_or_else(|| panic!("{place} has no example"));
            let text = match section.path.as_str() {
                "virtualenv.git" => format!("[[virtualenv]]\ngit = [{{\n{example}\n}}]\n"),
                _ => format!("{}\n{example}\n", section.header),
            };
            let line = text.lines().position(|line| line == example).unwrap() + 1;
            // A section that is complete by itself is refused for the sections that are missing.
            let error = Recipe::parse(&text, Path::new("example.toml")).unwrap_err();
            let found = error.position().map(|(line, _)| line);
            assert!(
                found != Some(line) || error.message().starts_with("missing key"),
                "{place} does not take its example: {error}"
            );
        }
    }
    assert!(keys > 60, "only {keys} keys seen");
}

/// A list in place of a table would be read as the table's values in order.
#[test]
fn no_list_is_taken_for_a_table() {
    let tables = sections()
        .into_iter()
        .filter(|section| section.header.starts_with('['));
    for section in tables {
        let header = section.header.replace("[[", "[").replace("]]", "]");
        let (parent, name) = section.path.rsplit_once('.').unwrap_or(("", &section.path));
        let parent = if parent.is_empty() {
            String::new()
        } else {
            format!("[{parent}]\n")
        };
        for list in ["\"/x\"", "\"x\"", "[\"x\"]", "[[\"x\"]]"] {
            let text = format!("{parent}{name} = [{list}]\n");
            let error = Recipe::parse(&text, Path::new("list.toml")).unwrap_err();
            assert!(
                !error.message().starts_with("missing"),
                "{header}: {text}: {error}"
            );
        }
    }
}
