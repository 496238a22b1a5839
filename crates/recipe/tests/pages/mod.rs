//! The pages `docs/recipes/NAME.md`: what a recipe file says, and the doc comment of the part it names.

use elenchus_control::EstimateInput;
use elenchus_recipe::{Kind, Recipe, StrategyPart};
use std::path::Path;

/// The page of one recipe.
pub fn page(root: &Path, recipe: &Recipe) -> String {
    let id = recipe.paper.trim_start_matches("arXiv:");
    let mut page = format!(
        "# {}\n\nGenerated from `recipes/{}.toml` and the doc comment of its part: \
         `ELENCHUS_UPDATE=1 cargo test --release -p elenchus-recipe --test generated`.\n\n\
         *{}*, [arXiv {id}](https://arxiv.org/abs/{id}).\n\n{}.\n\n",
        recipe.name, recipe.name, recipe.title, recipe.summary
    );
    let mut row = |name: &str, value: &str| page.push_str(&format!("| {name} | {value} |\n"));
    row("", "");
    row("---", "---");
    row("generate", &recipe.triple.generate);
    row("evaluate", &recipe.triple.evaluate);
    row("control", &recipe.triple.control);
    row("learner", &recipe.triple.learner);
    row("verdict", recipe.verdict.as_deref().unwrap_or("not run in full"));
    if let Some(method) = &recipe.method {
        page.push_str(&format!("\n## Method\n\n{}\n", method.trim()));
    }
    if let Some(part) = &recipe.strategy {
        page.push_str(&strategy(root, part));
    }
    if let Some(cost) = &recipe.cost {
        page.push_str(&format!("\n## Cost and needs\n\n{}\n", cost.trim()));
    }
    if let Some(helps) = &recipe.helps {
        page.push_str(&format!("\n## When it helps\n\n{}\n", helps.trim()));
    }
    if let Some(differs) = &recipe.differs {
        page.push_str(&format!("\n## How it differs from the paper\n\n{}\n", differs.trim()));
    }
    page.push_str(&format!("\n## Try it\n\n```sh\n{}\n```\n", example(recipe).join("\n")));
    page.push_str(&acceptance(root, recipe));
    page
}

/// What the part does, with the evaluator that the recipe names; what it needs and costs with the recipe's settings, and
/// where these stand.
#[expect(clippy::expect_used, reason = "a test helper that fails should stop the test")]
fn strategy(root: &Path, part: &StrategyPart) -> String {
    let name = part.name.as_str();
    let made = elenchus_control::strategy(name, part.settings.clone()).expect("the recipe is checked");
    let mut text = format!("\n## Method\n\n{}\n", method(root, "control", name));
    let evaluator = part.settings["evaluator"].as_str();
    if let Some(evaluator) = evaluator {
        text.push_str(&format!("\nThe evaluator `{evaluator}`: {}\n", method(root, "evaluate", evaluator)));
    }
    let input = EstimateInput { prompt_tokens: 100, completion_tokens: 100 };
    let (cost, needs) = (made.estimate(&input).formula, made.needs());
    text.push_str(&format!("\n## Cost and needs\n\nCosts {cost}.\n"));
    if needs.oracle {
        text.push_str("Problems need reference answers: it measures, and cannot answer new questions.\n");
    }
    let mut capable = |role: &elenchus_evaluate::RoleNeeds| {
        let mut wants = Vec::new();
        for (needed, what) in [
            (role.logprobs, "log-probabilities of the tokens it writes"),
            (role.score, "scores of given text"),
            (role.distributions, "statistics of the full token distributions"),
            (role.top_logprobs > 0, "the likeliest tokens at each position"),
            (role.prefix, "continuing a begun answer"),
            (role.words, "the chat voice"),
        ] {
            if needed {
                wants.push(what);
            }
        }
        let wants = if wants.is_empty() { "sampling only".into() } else { wants.join(", ") };
        text.push_str(&format!("Role `{}`: {wants}.\n", role.role));
    };
    needs.roles.iter().for_each(&mut capable);
    let settings: Vec<String> = part
        .settings
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, value)| format!("`{name} = {value}`"))
        .collect();
    if !settings.is_empty() {
        text.push_str(&format!("\nSet by the recipe: {}.\n", settings.join(", ")));
    }
    text.push_str(&format!("\nSettings: [reference](../reference/recipes.md#{name})"));
    text.push_str(&evaluator.map_or(".\n".into(), |name| {
        format!(", of the evaluator [`{name}`](../reference/recipes.md#{name}).\n")
    }));
    text
}

/// The doc comment of the part's type, as it stands in the source of a crate.
#[expect(clippy::panic, reason = "a test helper that fails should stop the test")]
fn method(root: &Path, room: &str, name: &str) -> String {
    // One part is one file, or a folder where it is large.
    let part = root.join("crates").join(room).join("src").join(name.replace('-', "_"));
    let alone = part.with_extension("rs");
    let file = if alone.exists() { alone } else { part.join("mod.rs") };
    let source = std::fs::read_to_string(&file).unwrap_or_default();
    // `cyberv` is `CyberV`: names of methods have capitals of their own.
    let type_name = name.replace('-', "");
    let is_type = |line: &str| {
        let named = line.strip_prefix("pub struct ").and_then(|rest| rest.split_once(' '));
        named.is_some_and(|(found, _)| found.eq_ignore_ascii_case(&type_name))
    };
    let mut comment: Vec<&str> = Vec::new();
    for line in source.lines() {
        if let Some(said) = line.strip_prefix("///") {
            comment.push(said.strip_prefix(' ').unwrap_or(said));
        } else if is_type(line) {
            return comment.join("\n").replace("[`crate::", "[`");
        } else if !line.starts_with("#[") {
            comment.clear();
        }
    }
    panic!("{} has no documented type `{type_name}`", file.display());
}

/// The recipe's own commands, or the usual ones.
fn example(recipe: &Recipe) -> Vec<String> {
    let name = &recipe.name;
    let mut lines = recipe.examples.clone();
    if lines.is_empty() && recipe.kind == Kind::TestTime && recipe.strategy.is_some() {
        lines.push(format!(
            "elenchus compare --strategy self-consistency --strategy {name} --task arithmetic --problems 200"
        ));
        lines.push(format!(
            "elenchus ask 'What is 17 * 23 - 4?' --strategy {name} --endpoint http://localhost:11434/v1 --model qwen3:4b"
        ));
    }
    if lines.is_empty() && recipe.rounds.is_some() {
        lines.push(format!("elenchus improve --recipe {name}"));
    }
    let reproduces = |line: &String| line.starts_with("elenchus reproduce");
    if recipe.acceptance.is_some() && !lines.iter().any(reproduces) {
        lines.push(format!("elenchus reproduce {name} --quick"));
    }
    lines
}

fn acceptance(root: &Path, recipe: &Recipe) -> String {
    let Some(acceptance) = &recipe.acceptance else { return String::new() };
    let mut text = format!(
        "\n## What must hold\n\nOn `{}`, against {}; budgets: {}.\n\n| claim | at least | interval above | required |\n|---|---|---|---|\n",
        acceptance.task, acceptance.baseline, acceptance.budget
    );
    for claim in &acceptance.claims {
        text.push_str(&format!(
            "| {} | {} | {} | {} |\n",
            claim.text.replace('|', "\\|"),
            claim.at_least,
            claim.above.map_or("–".to_string(), |above| above.to_string()),
            if claim.required { "yes" } else { "observation" }
        ));
    }
    if root.join(format!("docs/results/{}.md", recipe.name)).exists() {
        text.push_str(&format!("\nWhat was found: [result](../results/{}.md).\n", recipe.name));
    }
    text
}
