//! The recipes that come with the program.

use crate::{Recipe, RecipeError, parse};
use elenchus_control::RECIPE_FILE;
use elenchus_trace::nearest;

macro_rules! recipes {
    ($($name:literal),* $(,)?) => {
        /// File name and text of every recipe.
        pub const BUILT_IN: &[(&str, &str)] = &[$((
            concat!("recipes/", $name, ".toml"),
            include_str!(concat!("../../../recipes/", $name, ".toml")),
        )),*];
    };
}

recipes![
    "b-star",
    "confidence-vs-critique",
    "critic-bench",
    "deceptive-judge",
    "cyberv",
    "feedback-friction",
    "fobar",
    "gsa",
    "iad",
    "iterative-deepening-sampling",
    "internal-consistency",
    "p-true-p-ik",
    "rain",
    "real-critic",
    "rpc",
    "self-agreement",
    "self-certainty",
    "taxonomy-grid",
];

/// All recipes, checked.
pub fn built_in_recipes() -> Result<Vec<Recipe>, RecipeError> {
    BUILT_IN.iter().map(|(file, text)| parse(file, text)).collect()
}

/// The recipe with this name.
pub fn built_in(name: &str) -> Result<Recipe, RecipeError> {
    let recipes = built_in_recipes()?;
    match recipes.iter().find(|r| r.name == name) {
        Some(recipe) => Ok(recipe.clone()),
        None => Err(RecipeError::Unknown {
            what: "recipe",
            name: name.into(),
            hint: nearest(name, recipes.iter().map(|r| r.name.as_str())),
        }),
    }
}

/// A built-in recipe by name, or a recipe file by path (anything that ends in `.toml`).
pub fn built_in_or_file(name: &str) -> Result<Recipe, RecipeError> {
    if name.ends_with(RECIPE_FILE) {
        let text = elenchus_remember::fs::read_to_string(name)?;
        return parse(name, &text);
    }
    built_in(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sheet 41, J4: whoever adds a recipe says where it stands, in words that a machine reads.
    #[test]
    fn every_recipe_has_its_place_on_the_axes() {
        for recipe in built_in_recipes().unwrap() {
            let axes = recipe.axes();
            assert!(axes.is_some(), "`{}` names no strategy and has no [triple.axes]", recipe.name);
        }
    }
}
