//! The documentation against the code: links that resolve, paths that exist, and a table of counters that is complete.
//!
//! `UPDATE_DOCS=1 cargo test --test it docs` writes the table anew.

use std::fs;
use std::path::{Path, PathBuf};

use reactor::reactor::Ledger;
use reactor::service::CloseReason;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Returns every Markdown file of the repository with its text.
fn pages() -> Vec<(PathBuf, String)> {
    let in_directory = |directory: &str| {
        let entries = fs::read_dir(Path::new(ROOT).join(directory)).expect("a directory");
        entries
            .map(|entry| entry.expect("an entry").path())
            .filter(|path| path.extension().is_some_and(|ext| ext == "md"))
    };
    let paths = in_directory(".").chain(in_directory("docs"));
    paths.map(|path| (path.clone(), fs::read_to_string(path).expect("UTF-8"))).collect()
}

/// Returns the text outside of fenced blocks.
fn prose(page: &str) -> String {
    page.split("```").step_by(2).collect()
}

/// Returns the anchor that code hosts give a heading.
fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}

#[test]
fn links_between_pages_resolve() {
    let mut broken = Vec::new();
    for (path, text) in pages() {
        for link in prose(&text).split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if link.contains("://") {
                continue;
            }
            let (file, fragment) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { path.clone() } else { path.with_file_name(file) };
            let found = match fragment {
                "" => target.exists(),
                _ => fs::read_to_string(&target).is_ok_and(|text| {
                    let headings = text.lines().filter(|line| line.starts_with('#'));
                    headings.map(|line| anchor(line.trim_start_matches('#').trim())).any(|name| name == fragment)
                }),
            };
            if !found {
                broken.push(format!("{}: {link}", path.display()));
            }
        }
    }
    assert!(broken.is_empty(), "links without a target:\n{}", broken.join("\n"));
}

#[test]
fn source_files_that_pages_name_exist() {
    let mut missing = Vec::new();
    // The changelog and the decisions tell of files that are gone.
    let present = |path: &Path| !path.ends_with("CHANGELOG.md") && !path.ends_with("docs/decisions.md");
    for (path, text) in pages().into_iter().filter(|(path, _)| present(path)) {
        for name in prose(&text).split('`').skip(1).step_by(2) {
            let is_path = name.ends_with(".rs")
                && name.contains('/')
                && !name.contains(|c: char| " {*".contains(c) || c.is_uppercase());
            let found = ["", "src", "src/reactor", "src/reactor/source", "tests/it"]
                .iter()
                .any(|base| Path::new(ROOT).join(base).join(name).exists());
            if is_path && !found && name != "src/services/shout.rs" && name != "tests/it/shout.rs" {
                missing.push(format!("{}: {name}", path.display()));
            }
        }
    }
    assert!(missing.is_empty(), "files that do not exist:\n{}", missing.join("\n"));
}

/// Returns the table of counters, made from the declarations in the source.
fn table_of_counters() -> String {
    let source = fs::read_to_string(Path::new(ROOT).join("src/reactor/observe/ledger.rs")).expect("the source");
    let declared =
        source.split("\ncounters! {\n").nth(1).and_then(|rest| rest.split("\n}").next()).expect("the counters");
    let (mut rows, mut meaning) = (String::from("| counter | counts |\n|---|---|\n"), Vec::new());
    for line in declared.lines().map(str::trim) {
        match line.strip_prefix("///") {
            Some(text) => meaning.push(text.trim()),
            None => {
                let name = line.trim_end_matches(',');
                rows += &format!("| `{name}` | {} |\n", meaning.join(" ").replace('|', "\\|"));
                meaning.clear();
            }
        }
    }
    let reasons: Vec<_> = CloseReason::NAMES.iter().map(|name| format!("`closed_{name}`")).collect();
    rows + &format!("| {} | Connections that ended, by [reason](../src/service/reason.rs). |\n", reasons.join(", "))
}

#[test]
fn the_table_of_counters_is_that_of_the_code() {
    let path = Path::new(ROOT).join("docs/reading-the-loop.md");
    let page = fs::read_to_string(&path).expect("the page");
    let (begin, end) = ("<!-- counters: begin -->\n", "<!-- counters: end -->");
    let (before, rest) = page.split_once(begin).expect("the beginning of the table");
    let (table, after) = rest.split_once(end).expect("the end of the table");
    let made = table_of_counters();
    for (name, _) in Ledger::default().rows() {
        assert!(made.contains(&format!("| `{name}` |")), "{name} is missing");
    }
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, [before, begin, &made, end, after].concat()).expect("write the page");
    } else {
        assert_eq!(table, made, "run UPDATE_DOCS=1 cargo test --test it docs");
    }
}
