//! The README says what is true.

use std::{fs, path::Path};

use grantex_vault::config::{IMPORT_SETTINGS, SETTINGS};

const README: &str = include_str!("../../README.md");

/// The cells of a table row, without their code marks.
fn row_of(name: &str) -> Option<Vec<String>> {
    let cell = |text: &str| text.trim().trim_matches('`').to_owned();
    let rows = README.lines().filter(|line| line.starts_with('|'));
    let mut rows = rows.map(|line| {
        line.trim_matches('|')
            .split('|')
            .map(cell)
            .collect::<Vec<_>>()
    });
    rows.find(|cells| cells.first().is_some_and(|first| first == name))
}

#[test]
fn every_setting_is_in_its_table_with_its_default() {
    for setting in SETTINGS {
        let row = row_of(setting.name).unwrap_or_else(|| panic!("{} is missing", setting.name));
        assert_eq!(
            row[1],
            setting.default.unwrap_or("—"),
            "the default of {}",
            setting.name
        );
        assert!(!row[2].is_empty(), "the meaning of {}", setting.name);
        if let Some(twin) = setting.file_variable() {
            assert!(row_of(&twin).is_some(), "{twin} is missing");
        }
    }
}

#[test]
fn every_setting_in_its_table_exists() {
    let named = README
        .lines()
        .filter_map(|line| line.strip_prefix("| `GRANTEX_VAULT_"));
    let named = named.filter_map(|line| line.split('`').next());
    for name in named {
        let name = format!("GRANTEX_VAULT_{name}");
        let known = SETTINGS
            .iter()
            .any(|setting| setting.name == name || setting.file_variable().as_ref() == Some(&name));
        assert!(known, "{name} is not a setting");
    }
}

#[test]
fn the_settings_of_an_import_are_on_the_page_about_it() {
    let page = include_str!("../../docs/migrating.md");
    for setting in IMPORT_SETTINGS {
        assert!(page.contains(setting.name), "{} is missing", setting.name);
    }
}

/// The README and the pages of `docs/`, with their names.
fn pages() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let docs = fs::read_dir(root.join("docs")).unwrap();
    let docs = docs.map(|entry| entry.unwrap().path());
    let pages = docs.filter(|path| path.extension().is_some_and(|extension| extension == "md"));
    let mut pages: Vec<_> = pages.collect();
    pages.push(root.join("README.md"));
    let read = |path: &Path| fs::read_to_string(path).unwrap();
    pages
        .iter()
        .map(|path| (path.display().to_string(), read(path)))
        .collect()
}

#[test]
fn sql_for_an_owner_begins_with_a_path_of_built_ins() {
    let mut seen = 0;
    for (page, text) in pages() {
        for block in text.split("```sql\n").skip(1) {
            seen += 1;
            let first = block.lines().next();
            let path = "set search_path = pg_catalog, pg_temp;";
            assert_eq!(first, Some(path), "{page}");
        }
    }
    assert!(seen > 3, "{seen}");
}

#[test]
fn sql_within_a_sentence_names_the_schema_of_what_it_calls() {
    let mut seen = 0;
    for (page, text) in pages() {
        let quoted = text.split('`').skip(1).step_by(2);
        for sql in quoted.filter(|code| code.starts_with("select ")) {
            seen += 1;
            for call in sql.match_indices('(').map(|(at, _)| &sql[..at]) {
                let name = call.rsplit([' ', '(', ',']).next().unwrap();
                assert!(name.is_empty() || name.contains('.'), "{page}: {sql}");
            }
        }
    }
    assert!(seen > 3, "{seen}");
}
