//! `compare`: the same problems, a bound for each strategy, and what is said of unequal budgets.

mod support;

use serde_json::Value;
use support::{Server, code, json_of, run, scratch, stderr, write};

/// `single` takes 15 tokens a problem at this server, four samples at once take 30.
fn compare<'a>(server: &'a Server, strategies: &[&'a str], more: &[&'a str]) -> Vec<&'a str> {
    let mut arguments = vec!["compare", "--endpoint", &server.url, "--model", "m", "--at-once", "1", "-q"];
    strategies.iter().for_each(|strategy| arguments.extend(["--strategy", strategy]));
    arguments.extend(more);
    arguments
}

const VOTE_OF_FOUR: &str = "self-consistency:samples=4,early_stop=false";

#[test]
fn a_strategy_that_reaches_its_bound_is_compared_on_what_both_answered() {
    let folder = scratch();
    let server = Server::start();
    let bounded = ["--problems", "6", "--max-total-tokens", "280", "--json"];
    let output = run(folder.path(), &compare(&server, &["single", VOTE_OF_FOUR], &bounded));
    let found = json_of(&output);
    let arms = &found["strategies"];
    assert_eq!(
        found["problems"], 4,
        "the fourth vote begins with 190 tokens left, 160 are too few for a prompt and four answers: {found}"
    );
    assert_eq!((&arms[0]["answered"], &arms[0]["reached_bound"]), (&Value::from(6), &Value::from(false)));
    assert_eq!((&arms[1]["answered"], &arms[1]["reached_bound"]), (&Value::from(4), &Value::from(true)));
    for (arm, tokens) in [(0, 60), (1, 120)] {
        assert_eq!(arms[arm]["problems"], 4, "both are measured on the same problems");
        assert_eq!(arms[arm]["tokens"], tokens);
    }
    assert_eq!(arms[0]["spent"]["completion_tokens"], 30, "all six answers of the first");
    let paired = &found["comparisons"][0];
    assert_eq!((&paired["questions"], &paired["tokens"]), (&Value::from(4), &serde_json::json!([120, 60])));
    assert_eq!((&found["equal_budget"], &paired["equal_budget"]), (&false.into(), &false.into()));
    let sentence = paired["sentence"].as_str().unwrap_or_default();
    assert!(sentence.ends_with("The budgets were not equal: 120 tokens against 60."), "{sentence}");

    let bounded = ["--problems", "6", "--max-total-tokens", "280"];
    let text = run(folder.path(), &compare(&server, &["single", VOTE_OF_FOUR], &bounded));
    let said = String::from_utf8_lossy(&text.stdout).into_owned();
    assert!(said.contains("its bound was reached after 4 of 6 problems"), "{said}");
    assert!(said.contains("compared on the first 4 problems"), "{said}");
    assert!(said.contains("The budgets were not equal"), "{said}");
}

#[test]
fn what_was_paid_up_to_a_bound_is_there_for_a_larger_one() {
    let folder = scratch();
    let server = Server::start();
    let short = ["--problems", "6", "--max-calls", "2"];
    let output = run(folder.path(), &compare(&server, &["single", VOTE_OF_FOUR], &short));
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert_eq!(server.count(), 4, "two calls for each");
    let output =
        run(folder.path(), &compare(&server, &["single", VOTE_OF_FOUR], &["--problems", "6", "--json"]));
    assert_eq!(json_of(&output)["problems"], 6);
    assert_eq!(server.count(), 12, "what was answered is not asked for again");
    let left = std::fs::read_dir(folder.path().join("cache/elenchus/runs")).map_or(0, Iterator::count);
    assert_eq!(left, 0, "a command that is done leaves nothing");
}

#[test]
fn a_bound_that_ends_while_samples_are_chosen_says_so() {
    let folder = scratch();
    let server = Server::start();
    let short = ["--problems", "5", "--tokens", "60", "--pilot", "2", "--max-calls", "3"];
    let votes = ["self-consistency:early_stop=false", "single"];
    let output = run(folder.path(), &compare(&server, &votes, &short));
    assert_eq!(code(&output), 5, "{}", stderr(&output));
    assert!(stderr(&output).contains("choosing `samples` of `self-consistency`"), "{}", stderr(&output));
    assert_eq!(server.count(), 3, "the bound holds for all of it together");
}

#[test]
fn tokens_choose_how_many_samples_are_drawn() {
    let folder = scratch();
    let server = Server::start();
    let votes = ["self-consistency:early_stop=false", "self-consistency:early_stop=false,temperature=0.5"];
    let found = json_of(&run(
        folder.path(),
        &compare(&server, &votes, &["--problems", "5", "--tokens", "60", "--pilot", "2", "--json"]),
    ));
    // 10 tokens of the prompt and 5 for each sample.
    for (arm, wanted) in
        ["early_stop=false,samples=10", "early_stop=false,temperature=0.5,samples=10"].into_iter().enumerate()
    {
        let arm = &found["strategies"][arm];
        assert_eq!(arm["strategy"], format!("self-consistency:{wanted}"));
        assert_eq!(arm["tokens"], 300);
        // Two problems with 2 and with 6 samples beside those with 10, which are among the five.
        let spent = arm["spent"]["prompt_tokens"].as_u64().zip(arm["spent"]["completion_tokens"].as_u64());
        assert_eq!(spent.map(|(prompt, completion)| prompt + completion), Some(40 + 80 + 300), "{arm}");
    }
    assert_eq!(server.count(), 2 * (2 + 2 + 5), "no problem is answered twice with as many samples");
    assert_eq!(found["equal_budget"], true);
    let sentence = found["comparisons"][0]["sentence"].as_str().unwrap_or_default();
    assert!(!sentence.contains("not equal"), "{sentence}");
}

#[test]
fn a_bound_that_allows_no_problem_is_an_error_that_names_its_option() {
    let folder = scratch();
    let server = Server::start();
    let none = ["--problems", "3", "--max-calls", "0"];
    let output = run(folder.path(), &compare(&server, &["single", VOTE_OF_FOUR], &none));
    assert_eq!(code(&output), 5, "{}", stderr(&output));
    assert!(stderr(&output).contains("`single` answered no problem"), "{}", stderr(&output));
    assert!(stderr(&output).contains("hint: raise `--max-calls`"), "{}", stderr(&output));
    assert_eq!(server.count(), 0);
}

#[test]
fn layers_of_the_endpoint_are_those_of_the_configuration() {
    let folder = scratch();
    let server = Server::start();
    server.silent_from(0);
    let layers = "[endpoint.layers]\ntimeouts.first_byte_seconds = 0.2\nretry.attempts = 2\nretry.base_seconds = 0.01\n";
    write(folder.path(), "elenchus.toml", layers);
    let ask = ["ask", "1+1", "--endpoint", &server.url, "--model", "m", "--strategy", "single", "-q"];
    let output = run(folder.path(), &ask);
    assert_eq!(code(&output), 4, "{}", stderr(&output));
    assert_eq!(server.count(), 2, "two attempts, as the configuration says");
    let hint = "raise `endpoint.layers.timeouts.first_byte_seconds` in elenchus.toml";
    assert!(stderr(&output).contains(hint), "the hint names a field that exists: {}", stderr(&output));
}
