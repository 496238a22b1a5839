//! Recipes that ask a model how sure it is, end to end against an endpoint with and without log-probabilities.

mod support;

use serde_json::{Value, json};
use support::{Server, completion, json_of, last_message, run, scratch};

/// Answers 0 to 4 when asked to solve. Asked to judge, it holds what says 4 for right with probability 0.9, whichever
/// letter means right; unless nothing is right.
fn server(logprobs: bool, any_right: bool) -> Server {
    Server::answering(move |body| {
        let prompt = last_message(body);
        let samples = body["n"].as_u64().unwrap_or(1);
        if !prompt.contains("single letter A or B") {
            let seed = body["seed"].as_u64().unwrap_or(0);
            let texts: Vec<String> =
                (0..samples).map(|index| format!("The answer is {}.", (seed + index) % 5)).collect();
            return completion(body, &texts, logprobs);
        }
        let judged = prompt.rsplit("Proposed solution").next().unwrap_or_default();
        let right = any_right && judged.contains("answer is 4");
        let (letter, other) = if right != prompt.contains("(A) wrong") { ("A", "B") } else { ("B", "A") };
        let mut answer = completion(body, &vec![letter.to_string(); samples as usize], false);
        if logprobs {
            let likely = json!([{"token": letter, "logprob": -0.105_360_5}, {"token": other, "logprob": -std::f64::consts::LN_10}]);
            let token = json!({"token": letter, "logprob": -0.105_360_5, "top_logprobs": likely});
            answer["choices"][0]["logprobs"] = json!({ "content": [token] });
        }
        answer
    })
}

fn ask(server: &Server) -> Value {
    let folder = scratch();
    let arguments = [
        "ask",
        "What is 2+2?",
        "--recipe",
        "p-true-p-ik",
        "--endpoint",
        &server.url,
        "--model",
        "m",
        "--json",
        "-q",
    ];
    json_of(&run(folder.path(), &arguments))
}

/// The calls in which a judgement was asked for.
fn judged(server: &Server) -> Vec<Value> {
    let text = |body: &Value| body["messages"][0]["content"].as_str().unwrap_or_default().to_string();
    let bodies = server.asked().into_iter().map(|asked| asked.body);
    bodies.filter(|body| text(body).contains("single letter A or B")).collect()
}

#[test]
fn the_response_that_the_judge_holds_for_right_is_given() {
    let server = server(true, true);
    let found = ask(&server);
    assert_eq!(found["answer"], "4", "{found}");
    assert!(found["confidence"].as_f64().is_some_and(|p| p > 0.8), "{found}");
    let judged = judged(&server);
    assert_eq!(judged.len(), 10, "five samples, both orders of the labels");
    for body in &judged {
        assert_eq!((&body["max_tokens"], &body["logprobs"]), (&1.into(), &true.into()), "{body}");
        let prompt = body["messages"][0]["content"].as_str().unwrap_or_default();
        assert_eq!(prompt.matches("\n- ").count(), 5, "the other samples are shown: {prompt}");
    }
}

#[test]
fn without_log_probabilities_the_replies_are_counted_and_that_is_said() {
    let server = server(false, true);
    let found = ask(&server);
    assert_eq!(found["answer"], "4", "{found}");
    assert_eq!(judged(&server).len(), 20, "each was asked for likely tokens, then for replies");
    assert!(found.to_string().contains("a substitute for probabilities"), "the trace says how it was read");
}

#[test]
fn where_nothing_is_held_for_right_there_is_no_answer_but_a_reason() {
    let server = server(true, false);
    let found = ask(&server);
    assert_eq!(found["answer"], Value::Null, "{found}");
    let reason = found["abstained"].as_str().unwrap_or_default();
    assert!(reason.contains("below 0.5"), "{reason}");
}
