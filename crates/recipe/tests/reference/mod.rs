//! The page `docs/reference/recipes.md`, made from the schemas of a recipe and of its parts.

use elenchus_recipe::Recipe;
use serde_json::Value;

const HEAD: &str = "# Fields of a recipe

Generated: `ELENCHUS_UPDATE=1 cargo test --release -p elenchus-recipe --test generated`. The same as a JSON schema:
[`recipe.schema.json`](recipe.schema.json).

A recipe is a TOML file. `a.b` is field `b` of table `[a]`; `a[].b` is field `b` of each table `[[a]]`. A field that is not in
this list is refused. `elenchus recipes FILE.toml` checks a file of your own.
";

/// The whole page.
pub fn page() -> String {
    let mut page = String::from(HEAD);
    page.push_str(&table(&rows(&schemars::schema_for!(Recipe).to_value())));
    page.push_str("\n# Settings of strategies\n\nWhat `strategy.settings` may hold, by `strategy.name`.\n");
    let mut shared: Vec<Row> = Vec::new();
    for strategy in elenchus_control::strategies() {
        page.push_str(&format!(
            "\n## {}\n\n{}. Costs {}.\n",
            strategy.name,
            capital(strategy.summary),
            strategy.cost
        ));
        // How a response is drawn is set alike everywhere; `single`, the first, has no other settings.
        let all = rows(&strategy.settings);
        let own: Vec<Row> = all.iter().filter(|row| !shared.contains(row)).cloned().collect();
        page.push_str(&table(&own));
        if own.len() < all.len() {
            page.push_str("\nAnd those of [`single`](#single).\n");
        }
        if shared.is_empty() {
            shared = all;
        }
    }
    page.push_str(
        "\n# Settings of evaluators\n\nWhat `evaluator_settings` of a strategy may hold, by its `evaluator`.\n",
    );
    for evaluator in elenchus_evaluate::evaluators() {
        page.push_str(&format!("\n## {}\n\n{}.\n", evaluator.name, capital(evaluator.summary)));
        page.push_str(&table(&rows(&evaluator.settings)));
    }
    page
}

/// Field, type, default, meaning.
type Row = [String; 4];

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

/// The fields of an object, those of the tables in it behind each.
fn rows(schema: &Value) -> Vec<Row> {
    let mut rows = Vec::new();
    fields(schema, schema, "", &mut rows);
    rows
}

fn table(rows: &[Row]) -> String {
    if rows.is_empty() {
        return "\nNo settings.\n".into();
    }
    let mut text = String::from("\n| field | type | default | meaning |\n|---|---|---|---|\n");
    for row in rows {
        let cells: Vec<String> = row.iter().map(|cell| cell.replace('|', "\\|").replace('\n', " ")).collect();
        text.push_str(&format!("| {} |\n", cells.join(" | ")));
    }
    text
}

fn fields(root: &Value, object: &Value, path: &str, rows: &mut Vec<Row>) {
    let required: Vec<&str> =
        object["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    for (name, field) in object["properties"].as_object().into_iter().flatten() {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        let meant = resolve(root, field);
        let inner = resolve(root, &meant["items"]);
        let kind = kind(root, field);
        let is_table = meant["properties"].is_object();
        let default = match &field["default"] {
            _ if required.contains(&name.as_str()) => "required".into(),
            Value::Null => String::new(),
            // Its fields have their own.
            _ if is_table => String::new(),
            value => format!("`{}`", short(value, is_single(root, field))),
        };
        let mut meaning =
            field["description"].as_str().or(meant["description"].as_str()).unwrap_or_default().to_string();
        for (word, words) in words(meant) {
            if let Some(says) = words {
                meaning.push_str(&format!(" `{word}`: {}", says.trim_end_matches('.')));
                meaning.push('.');
            }
        }
        rows.push([format!("`{path}`"), kind, default, meaning]);
        fields(root, meant, &path, rows);
        fields(root, inner, &format!("{path}[]"), rows);
    }
}

/// What a schema stands for: a reference is followed, and the alternative `null` of an optional field left out.
fn resolve<'a>(root: &'a Value, schema: &'a Value) -> &'a Value {
    if let Some(name) = schema["$ref"].as_str().and_then(|path| path.strip_prefix("#/$defs/")) {
        return resolve(root, &root["$defs"][name]);
    }
    match schema["anyOf"]
        .as_array()
        .map(|all| all.iter().filter(|one| one["type"] != "null").collect::<Vec<_>>())
    {
        Some(only) if only.len() == 1 => resolve(root, only[0]),
        _ => schema,
    }
}

/// The words of an enumeration with what each means.
fn words(schema: &Value) -> Vec<(&str, Option<&str>)> {
    let listed =
        schema["enum"].as_array().into_iter().flatten().filter_map(|word| Some((word.as_str()?, None)));
    let told = schema["oneOf"].as_array().into_iter().flatten().flat_map(|one| match one["const"].as_str() {
        Some(word) => vec![(word, one["description"].as_str())],
        None => words(one),
    });
    listed.chain(told).collect()
}

fn kind(root: &Value, schema: &Value) -> String {
    let meant = resolve(root, schema);
    let mut kinds: Vec<String> = words(meant).iter().map(|(word, _)| format!("`{word}`")).collect();
    let name = |name: &str| -> Option<String> {
        Some(match name {
            "null" => return None,
            "string" if !kinds.is_empty() => return None,
            "string" => "text".into(),
            "boolean" => "`true`, `false`".into(),
            "integer" => "whole number".into(),
            "array" => match kind(root, &meant["items"]).as_str() {
                plural @ ("table" | "number" | "whole number" | "text") => format!("list of {plural}s"),
                other => format!("list of {other}"),
            },
            "object" => "table".into(),
            other => other.into(),
        })
    };
    let named: Vec<String> = match &meant["type"] {
        Value::String(only) => name(only).into_iter().collect(),
        Value::Array(all) => all.iter().filter_map(Value::as_str).filter_map(name).collect(),
        _ => Vec::new(),
    };
    kinds.extend(named);
    let others = ["oneOf", "anyOf"].iter().filter_map(|key| meant[key].as_array()).flatten();
    for other in others.filter(|other| other["const"].is_null() && other["type"] != "null") {
        let other = kind(root, other);
        if !kinds.contains(&other) && !other.split(", ").all(|word| kinds.iter().any(|kind| kind == word)) {
            kinds.push(other);
        }
    }
    if kinds.is_empty() { "any".into() } else { kinds.join(", ") }
}

/// Whether a number, or the numbers of a list, have single precision.
fn is_single(root: &Value, schema: &Value) -> bool {
    let meant = resolve(root, schema);
    meant["format"] == "float" || (meant["items"].is_object() && is_single(root, &meant["items"]))
}

/// A default as TOML writes it; a number of single precision without the digits that double precision adds.
fn short(value: &Value, single: bool) -> String {
    match value {
        Value::Array(items) => {
            format!("[{}]", items.iter().map(|item| short(item, single)).collect::<Vec<_>>().join(", "))
        }
        Value::Number(number) if single => {
            number.as_f64().map(|number| format!("{:?}", number as f32)).unwrap_or_default()
        }
        other => other.to_string(),
    }
}
