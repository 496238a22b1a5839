//! From TOML text to a checked recipe.

use crate::{Kind, Recipe, RecipeError};
use elenchus_trace::nearest;
use serde::de::DeserializeOwned;

/// Reads a recipe. `file` is only named in errors.
pub fn parse(file: &str, text: &str) -> Result<Recipe, RecipeError> {
    let recipe = read_toml(file, text, HINT)?;
    check(&recipe)?;
    Ok(recipe)
}

const HINT: &str = "docs/reference/recipes.md lists every field with its type";

/// Reads TOML; `file` is only named in errors, `hint` is what helps when there is no nearest word.
pub(crate) fn read_toml<T: DeserializeOwned>(file: &str, text: &str, hint: &str) -> Result<T, RecipeError> {
    toml::from_str(text).map_err(|error| {
        let line =
            error.span().map_or(1, |span| 1 + text[..span.start.min(text.len())].matches('\n').count());
        let message = error.message();
        let hint = nearest_word(message).unwrap_or_else(|| hint.into());
        RecipeError::Parse { file: file.into(), line, hint, problem: first_line(message) }
    })
}

fn first_line(message: &str) -> String {
    message.lines().next().unwrap_or_default().to_string()
}

/// The nearest valid word when the message lists the valid ones, in backticks behind the wrong one.
fn nearest_word(message: &str) -> Option<String> {
    let words: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    match words.as_slice() {
        [wrong, valid @ ..] if message.contains("expected") && !valid.is_empty() => {
            Some(nearest(wrong, valid.iter().copied()))
        }
        _ => None,
    }
}

fn check(recipe: &Recipe) -> Result<(), RecipeError> {
    let refuse = |problem: String, hint: String| {
        Err(RecipeError::Check { recipe: recipe.name.clone(), problem, hint })
    };
    if recipe.name.is_empty()
        || !recipe.name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
    {
        return refuse(
            "the name must be lower-case letters, digits and `-`".into(),
            "for example `self-certainty`".into(),
        );
    }
    if let Some(part) = &recipe.strategy {
        elenchus_control::strategy(&part.name, part.settings.clone())
            .map_err(|error| split(&recipe.name, &error.to_string()))?;
        if let (Some(written), Some(known)) = (recipe.triple.axes, recipe.axes())
            && written != known
        {
            return refuse(
                format!("[triple.axes] is not the place of the strategy `{}`", part.name),
                "leave [triple.axes] out: the strategy says it".into(),
            );
        }
    }
    if let Some(rounds) = &recipe.rounds {
        rounds.check().map_err(|error| split(&recipe.name, &error.to_string()))?;
    }
    if recipe.kind == Kind::TestTime && recipe.strategy.is_none() {
        return refuse(
            "a test-time recipe names no strategy".into(),
            "add a [strategy] table with `name`".into(),
        );
    }
    if let Some(acceptance) = &recipe.acceptance {
        let mut seen = std::collections::HashSet::new();
        if let Some(twice) = acceptance.claims.iter().find(|c| !seen.insert(c.id.as_str())) {
            return refuse(
                format!("two claims have the id `{}`", twice.id),
                "give each claim its own id".into(),
            );
        }
    }
    Ok(())
}

/// Takes a part's own `… hint: …` message apart.
fn split(recipe: &str, message: &str) -> RecipeError {
    let (problem, hint) = message.split_once("\nhint: ").unwrap_or((message, HINT));
    RecipeError::Check { recipe: recipe.into(), problem: problem.into(), hint: hint.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
name = "mine"
title = "t"
paper = "arXiv:0000.00000"
sheet = 7
summary = "s"
kind = "test-time"
state = "preview"

[triple]
generate = "sample"
evaluate = "vote share"
control = "vote"
learner = "none"

[strategy]
name = "self-consistency"
settings = { samples = 4 }
"#;

    #[test]
    fn a_good_recipe_is_read() {
        let recipe = parse("mine.toml", GOOD).unwrap();
        assert_eq!(recipe.strategy.unwrap().settings["samples"], 4);
    }

    #[test]
    fn the_registered_words_of_the_taxonomy_are_those_of_the_strategy() {
        let vote = "\n[triple.axes]\ngenerate = \"hand-written\"\nevaluate = \"self-assessment\"\n\
                    control = \"ensemble\"\nline = \"reasoning-topologically\"\n\n[strategy]";
        let recipe = parse("mine.toml", &GOOD.replace("\n[strategy]", vote)).unwrap();
        assert_eq!(recipe.axes(), recipe.triple.axes);
        assert_eq!(parse("mine.toml", GOOD).unwrap().axes(), recipe.axes());
        let wrong = GOOD.replace("\n[strategy]", &vote.replace("self-assessment", "tool"));
        let error = parse("mine.toml", &wrong).unwrap_err().to_string();
        assert!(error.contains("[triple.axes]") && error.contains("hint:"), "{error}");
        let unknown = GOOD.replace("\n[strategy]", &vote.replace("\"ensemble\"", "\"guess\""));
        assert!(parse("mine.toml", &unknown).unwrap_err().to_string().contains("guess"));
    }

    #[test]
    fn errors_name_file_line_and_the_nearest_word() {
        let wrong = GOOD.replace("learner =", "lerner =");
        let error = parse("mine.toml", &wrong).unwrap_err().to_string();
        assert!(error.starts_with("mine.toml:14: unknown field `lerner`"), "{error}");
        assert!(error.ends_with("hint: did you mean `learner`?"), "{error}");
        let error = parse("mine.toml", &GOOD.replace("self-consistency", "self-consistancy"))
            .unwrap_err()
            .to_string();
        assert!(error.contains("self-consistency"), "the nearest strategy is offered: {error}");
        let error = parse("mine.toml", &GOOD.replace("samples = 4", "sampels = 4")).unwrap_err().to_string();
        assert!(error.contains("sampels"), "a setting of a part is checked too: {error}");
        assert!(parse("mine.toml", &GOOD.replace("sheet = 7", "sheet = \"seven\"")).is_err(), "wrong type");
        assert!(parse("mine.toml", "").is_err(), "empty file");
    }

    #[test]
    fn every_built_in_recipe_has_its_place_among_the_registered_words() {
        for (file, text) in crate::BUILT_IN {
            let recipe = parse(file, text).unwrap();
            let place =
                recipe.axes().unwrap_or_else(|| panic!("{file} has neither a strategy nor [triple.axes]"));
            let words = serde_json::to_value(place).unwrap();
            assert!(words["generate"].is_string() && words["evaluate"].is_string(), "{file}: {words}");
            let said = [&recipe.triple.generate, &recipe.triple.evaluate, &recipe.triple.control];
            assert!(
                said.iter().all(|words| !words.trim().is_empty()),
                "{file}: and says it in its own words"
            );
        }
    }

    #[test]
    fn every_built_in_recipe_is_valid_and_named_like_its_file() {
        for (file, text) in crate::BUILT_IN {
            let recipe = parse(file, text).unwrap();
            assert_eq!(format!("recipes/{}.toml", recipe.name), *file);
        }
    }
}
