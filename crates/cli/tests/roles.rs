//! Models of roles beside the actor's, and what a server can: from the command line and from `elenchus.toml`.

mod support;

use serde_json::Value;
use support::{Server, code, completion, json_of, last_message, run, scratch, stderr, write};

/// Solves when it is asked to, criticises when it is asked to. What it improves differs from what it was shown: a call that
/// was answered before is not made again.
fn speaking(solution: &'static str, critique: &'static str) -> Server {
    Server::answering(move |body| {
        let count = body["n"].as_u64().unwrap_or(1) as usize;
        let said = last_message(body);
        let text = match said.as_str() {
            said if said.contains("First wrong step: <") => critique.to_string(),
            said if said.contains("Critique:") => format!("Once more.\n{solution}"),
            _ => solution.to_string(),
        };
        completion(body, &vec![text; count], false)
    })
}

const FINDS: &str = "Step 1: wrong \u{2014} 2 and 2 are 4\nFirst wrong step: 1\nAdvice: add again";

fn models(server: &Server) -> Vec<Value> {
    server.asked().iter().map(|asked| asked.body["model"].clone()).collect()
}

#[test]
fn a_role_on_the_command_line_is_asked_at_its_own_server_under_one_budget() {
    let folder = scratch();
    let (little, large) = (speaking("2 + 2 = 5\nAnswer: 5", FINDS), speaking("no", FINDS));
    let role = format!("critic=big@model@{}", large.url);
    let ask = [
        "ask",
        "What is 2+2?",
        "--strategy",
        "critique-and-refine",
        "--set",
        "rounds=1",
        "--endpoint",
        &little.url,
        "--model",
        "little",
        "--json",
        "-q",
        "--role",
        &role,
    ];
    let answer = json_of(&run(folder.path(), &ask));
    assert!(
        !models(&large).is_empty() && models(&large).iter().all(|model| model == "big@model"),
        "{answer}"
    );
    assert!(models(&little).iter().all(|model| model == "little"), "{:?}", models(&little));
    assert_eq!(answer["usage"]["calls"].as_u64(), Some((little.count() + large.count()) as u64), "{answer}");

    let before = little.count() + large.count();
    let bounded = json_of(&run(folder.path(), &[&ask[..], &["--max-calls", "2"][..]].concat()));
    let spent = little.count() + large.count() - before;
    assert_eq!(spent, 2, "the budget counts the calls of both: {bounded}");
}

#[test]
fn eval_and_compare_take_roles_too_and_the_same_endpoint_serves_several_models() {
    let folder = scratch();
    let server = speaking("2 + 2 = 5\nAnswer: 5", FINDS);
    let shared =
        ["--endpoint", &server.url, "--model", "little", "--problems", "1", "--json", "-q", "--role"];
    let eval = ["eval", "--strategy", "critique-and-refine"];
    json_of(&run(folder.path(), &[&eval[..], &shared[..], &["critic=large"][..]].concat()));
    assert!(models(&server).contains(&"large".into()) && models(&server).contains(&"little".into()));
    let compare = ["compare", "--strategy", "single", "--strategy", "gsa:samples=2"];
    json_of(&run(folder.path(), &[&compare[..], &shared[..], &["aggregator=sharp"][..]].concat()));
    assert!(models(&server).contains(&"sharp".into()), "{:?}", models(&server));
}

/// A critic that there is none of would leave every answer as it is, and look like one that finds no error.
#[test]
fn a_role_whose_model_never_answers_ends_the_measurement() {
    let folder = scratch();
    let actor = speaking("2 + 2 = 4\nAnswer: 4", FINDS);
    let nobody =
        Server::answering(|_| serde_json::json!({"error": {"message": "no such model", "code": 404}}));
    let role = format!("critic=big@{}", nobody.url);
    let eval = ["eval", "--strategy", "critique-and-refine", "--problems", "2", "--role", &role, "-q"];
    let output = run(folder.path(), &[&eval[..], &["--endpoint", &actor.url, "--model", "m"][..]].concat());
    assert_eq!(code(&output), 4, "{}", stderr(&output));
    let said = stderr(&output);
    assert!(said.contains("`critic` gave nothing in all") && said.contains("no such model"), "{said}");
    assert!(said.contains("hint: "), "{said}");
}

#[test]
fn a_role_that_the_strategy_has_not_is_refused_with_those_it_has() {
    let folder = scratch();
    let server = Server::start();
    let ask = |strategy: &str, role: &str| {
        let arguments = [
            "ask",
            "What is 2+2?",
            "--strategy",
            strategy,
            "--endpoint",
            &server.url,
            "--model",
            "m",
            "--role",
            role,
        ];
        run(folder.path(), &arguments)
    };
    for (strategy, role, said) in [
        ("critique-and-refine", "critc=large", "critic"),
        ("self-consistency", "critic=large", "the actor alone"),
        ("critique-and-refine", "actor=large", "--model"),
        ("critique-and-refine", "critic", "NAME=MODEL@URL"),
    ] {
        let output = ask(strategy, role);
        let text = stderr(&output);
        assert_eq!(code(&output), 2, "{text}");
        assert!(text.contains(said) && text.contains("hint:"), "{text}");
    }
    let nowhere =
        ["ask", "1+1", "--model", "embedded", "--strategy", "critique-and-refine", "--role", "critic=large"];
    let output = run(folder.path(), &nowhere);
    assert_eq!(code(&output), 2, "{}", stderr(&output));
    assert!(stderr(&output).contains("critic=large@URL"), "{}", stderr(&output));
    assert_eq!(server.count(), 0, "said before the first call");
}

#[test]
fn the_configuration_binds_roles_and_only_those_that_are_used() {
    let folder = scratch();
    let (little, large) = (speaking("Answer: 5", FINDS), speaking("no", FINDS));
    let text = format!(
        "[endpoint]\nbase_url = \"{}\"\nmodel = \"little\"\n\n[roles.critic]\nbase_url = \"{}\"\nmodel = \"large\"\n\n\
         [roles.judge]\nmodel = \"sharp\"\n\n[prices.\"little\"]\ninput = 1\noutput = 1\n\n[prices.\"large\"]\ninput = 1e6\noutput = 1e6\n",
        little.url, large.url
    );
    write(folder.path(), "elenchus.toml", &text);
    let ask = ["ask", "What is 2+2?", "--json", "-q", "--strategy"];
    let refine = [&ask[..], &["critique-and-refine", "--set", "rounds=1"][..]].concat();
    let answer = json_of(&run(folder.path(), &refine));
    assert!(models(&large).iter().all(|model| model == "large") && large.count() > 0);
    assert!(models(&little).iter().all(|model| model == "little"), "the judge is not asked");
    // 10 prompt tokens and 1 completion token a call.
    let money = answer["usage"]["money"].as_f64().unwrap_or(0.0);
    assert!((money - 11.0 * large.count() as f64).abs() < 0.01, "each model has its own price: {money}");
    let judged =
        ["best-of-n", "--set", "evaluator=judge", "--set", "evaluator_settings={\"reading\": \"sample\"}"];
    json_of(&run(folder.path(), &[&ask[..], &judged[..]].concat()));
    assert!(models(&little).contains(&"sharp".into()), "without an address it is at the endpoint");
    let unpriced = [&ask[..], &judged[..], &["--max-money", "1"][..]].concat();
    let output = run(folder.path(), &unpriced);
    assert!(code(&output) == 2 && stderr(&output).contains("`sharp`"), "{}", stderr(&output));
}

/// The command line wins over the file, for the place of a role too.
#[test]
fn a_role_without_url_is_at_the_given_endpoint_else_at_its_own_address() {
    let folder = scratch();
    let solution = "2 + 2 = 5\nAnswer: 5";
    let [configured, own, given] = [(); 3].map(|()| speaking(solution, FINDS));
    let text = format!(
        "[endpoint]\nbase_url = \"{}\"\nmodel = \"little\"\n\n[roles.critic]\nbase_url = \"{}\"\nmodel = \"large\"\n",
        configured.url, own.url
    );
    write(folder.path(), "elenchus.toml", &text);
    let critics = || {
        let of = |server: &Server| {
            let all = models(server);
            all.iter().filter(|model| **model != "little" && **model != "mine").count()
        };
        [of(&configured), of(&own), of(&given)]
    };
    let refine = ["--strategy", "critique-and-refine", "--set", "rounds=1", "--json", "-q"];
    let mut before = critics();
    let mut ask = |question: &str, more: &[&str]| {
        json_of(&run(folder.path(), &[&["ask", question][..], &refine, more].concat()));
        let now = critics();
        let asked = [0, 1, 2].map(|server| now[server] > before[server]);
        before = now;
        asked
    };
    let elsewhere = ["--endpoint", &given.url, "--model", "mine"];
    assert_eq!(ask("1+1?", &[]), [false, true, false], "the table's address");
    assert_eq!(ask("1+2?", &["--role", "critic=big"]), [false, true, false], "another model there");
    let both = [&elsewhere[..], &["--role", "critic=large"]].concat();
    assert_eq!(
        ask("1+3?", &both),
        [false, false, true],
        "at `--endpoint`, also by the name that the table has"
    );
    assert_eq!(ask("1+4?", &elsewhere), [false, true, false], "a role that only the file binds stays there");
    let spelled = format!("critic=big@{}", configured.url);
    let both = [&elsewhere[..], &["--role", &spelled]].concat();
    assert_eq!(ask("1+5?", &both), [true, false, false], "an address of its own");
}

#[test]
fn a_server_that_continues_prefixes_is_used_as_such_when_it_is_said() {
    let folder = scratch();
    let server = Server::answering(|body| {
        let count = body["n"].as_u64().unwrap_or(1) as usize;
        let text = if last_message(body).contains("single letter") { "A" } else { "2 + 2 = 4\n\nAnswer: 4" };
        completion(body, &vec![text.to_string(); count], true)
    });
    let eval = [
        "eval",
        "--problems",
        "1",
        "--strategy",
        "step-search",
        "--set",
        "searches=4",
        "--endpoint",
        &server.url,
        "--model",
        "m",
        "--json",
        "-q",
    ];
    let refused = run(folder.path(), &eval);
    assert_eq!(code(&refused), 2, "{}", stderr(&refused));
    assert!(
        stderr(&refused).contains("--prefix") && stderr(&refused).contains("[endpoint]"),
        "{}",
        stderr(&refused)
    );
    assert_eq!(server.count(), 0);
    json_of(&run(folder.path(), &[&eval[..], &["--prefix", "continue_final_message"][..]].concat()));
    let marked = |server: &Server| {
        server.asked().iter().filter(|asked| asked.body["continue_final_message"] == true).count()
    };
    assert!(marked(&server) > 0, "prefixes are continued");

    let written = format!(
        "[endpoint]\nbase_url = \"{}\"\nmodel = \"m\"\nprefix = \"send\"\nabilities = {{ logprobs = false }}\n",
        server.url
    );
    write(folder.path(), "elenchus.toml", &written);
    let before = server.count();
    let eval =
        ["eval", "--problems", "1", "--strategy", "step-search", "--set", "searches=4", "--json", "-q"];
    json_of(&run(folder.path(), &eval));
    let sent = &server.asked()[before..];
    let prefixed = sent.iter().filter(|asked| {
        let messages = asked.body["messages"].as_array();
        messages.and_then(|all| all.last()).is_some_and(|last| last["role"] == "assistant")
    });
    assert!(prefixed.count() > 0, "the beginning is sent as it is");
    assert!(sent.iter().all(|asked| asked.body["continue_final_message"].is_null()));
    assert!(sent.iter().all(|asked| asked.body["logprobs"].is_null()), "the server has none");
}
