//! What is generated from the recipes is up to date: the README's table, the schema, the page of all
//! fields, and a page per recipe.

#![expect(clippy::expect_used, reason = "a test helper that fails should stop the test")]

mod pages;
mod reference;

use elenchus_recipe::{Recipe, State, built_in_recipes};
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Compares, or writes when asked to.
fn up_to_date(path: &Path, wanted: &str) {
    if std::env::var_os("ELENCHUS_UPDATE").is_some() {
        std::fs::write(path, wanted).expect("the file can be written");
    }
    let found = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        found == wanted,
        "{} is stale: ELENCHUS_UPDATE=1 cargo test --release -p elenchus-recipe",
        path.display()
    );
}

#[test]
fn the_table_of_recipes_in_the_readme() {
    let mut table =
        String::from("\n| recipe | paper | what it does | state | verdict |\n|---|---|---|---|---|\n");
    for r in built_in_recipes().expect("all recipes are valid") {
        let state = match r.state {
            State::Preview => "preview",
            State::Complete => "complete",
        };
        let id = r.paper.trim_start_matches("arXiv:");
        table.push_str(&format!(
            "| [`{}`](docs/recipes/{}.md) | [{id}](https://arxiv.org/abs/{id}) | {} | {state} | {} |\n",
            r.name,
            r.name,
            r.summary,
            r.verdict.as_deref().unwrap_or("not run in full")
        ));
    }
    let path = root().join("README.md");
    let text = std::fs::read_to_string(&path).expect("the README");
    let open = text.find("<!-- recipes:").and_then(|at| text[at..].find("-->").map(|end| at + end + 3));
    let (Some(open), Some(close)) = (open, text.find("<!-- /recipes -->")) else {
        panic!("the README has no markers for the table of recipes");
    };
    up_to_date(&path, &format!("{}{table}{}", &text[..open], &text[close..]));
}

#[test]
fn the_schema_of_recipes() {
    let schema = schemars::schema_for!(Recipe);
    let text = serde_json::to_string_pretty(&schema).expect("a schema is JSON") + "\n";
    up_to_date(&root().join("docs/reference/recipe.schema.json"), &text);
}

#[test]
fn the_page_of_all_fields() {
    let page = reference::page();
    for row in
        ["| `rounds.train.steps` | whole number | `400` |", "| `acceptance.claims[].id` | text | required |"]
    {
        assert!(page.contains(row), "the page lacks {row}");
    }
    up_to_date(&root().join("docs/reference/recipes.md"), &page);
}

#[test]
fn a_page_for_every_recipe() {
    let folder = root().join("docs/recipes");
    std::fs::create_dir_all(&folder).expect("the folder can be made");
    let recipes = built_in_recipes().expect("all recipes are valid");
    for recipe in &recipes {
        up_to_date(&folder.join(format!("{}.md", recipe.name)), &pages::page(&root(), recipe));
    }
    let pages = std::fs::read_dir(&folder).expect("the folder can be read").count();
    assert_eq!(pages, recipes.len(), "a page is left over from a recipe that is gone");
}
