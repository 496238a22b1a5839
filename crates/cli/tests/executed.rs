//! Commands that train, measure and report, run from end to end at a size that says nothing.

#![expect(clippy::expect_used, reason = "a test helper that fails should stop the test")]

mod support;

use serde_json::{Value, json};
use std::path::Path;
use support::{code, json_of, run, scratch, stderr, write};

fn set<'a>(command: &[&'a str], settings: &[&'a str]) -> Vec<&'a str> {
    let mut arguments = command.to_vec();
    settings.iter().for_each(|setting| arguments.extend(["--set", setting]));
    arguments
}

#[test]
fn reproduce_prints_what_the_contract_names_and_report_finds_its_page() {
    let folder = scratch();
    let tiny = [
        "model=given",
        "seeds=[1]",
        "questions=12",
        "samples=4",
        "backward_samples=2",
        "candidates=3",
        "temperature=1.0",
        "alphas=[0.0,0.5,1.0]",
        "votes=[4,8]",
    ];
    let command = set(&["reproduce", "fobar", "--quick", "--out", "run", "--json", "-q"], &tiny);
    let found = json_of(&run(folder.path(), &command));
    assert_eq!((&found["recipe"], &found["size"]), (&json!("fobar"), &json!("quick")));
    assert!(found["holds"].is_boolean() && found["seconds"].is_number(), "{found}");
    let claims = found["claims"].as_array().cloned().unwrap_or_default();
    assert!(claims.len() >= 3, "{found}");
    for claim in &claims {
        assert!(claim["id"].is_string() && claim["text"].is_string(), "{claim}");
        assert!(claim["holds"].is_boolean() || claim["holds"].is_null(), "{claim}");
        for number in ["estimate", "low", "high"] {
            assert!(claim[number].is_number(), "{number}: {claim}");
        }
    }
    let again = json_of(&run(folder.path(), &["resume", "run", "--json", "-q"]));
    assert_eq!(again["claims"], found["claims"], "a finished run says the same, with its settings");

    let shown = run(folder.path(), &["report", "run"]);
    let path = String::from_utf8_lossy(&shown.stdout).trim().to_string();
    let page = std::fs::read_to_string(folder.path().join(&path)).expect("the path of the report");
    assert!(page.contains("<svg") || page.contains("<table"), "{path}");
    let reported = json_of(&run(folder.path(), &["report", "run", "--json"]));
    assert_eq!(reported["report"], path);
    assert_eq!(reported["metrics"][0]["recipe"], "fobar", "{reported}");
}

#[test]
fn pretrain_makes_a_model_from_nothing_and_the_same_one_again() {
    let folder = scratch();
    let tiny = [
        "model={\"hidden_size\":32,\"intermediate_size\":48,\"layers\":1,\"heads\":2,\"kv_heads\":2,\"max_positions\":512}",
        "base.steps=2",
        "base.batch=2",
        "curriculum=[]",
        "skills.steps=2",
        "skills.batch=2",
        "own={\"problems\":4,\"samples\":2}",
        "step_reward.problems=12",
        "step_reward.samples=2",
        "step_reward.validation=12",
        "step_reward.train.steps=2",
        "step_reward.train.batch=2",
    ];
    let make = |out: &str| {
        let command = set(&["pretrain", "--out", out, "--json", "-q"], &tiny);
        run(folder.path(), &command)
    };
    let made = json_of(&make("one"));
    assert_eq!(made["model"], "one/model");
    assert!(made["seconds"].is_number() && made["step_reward_auroc"].is_number(), "{made}");
    for phase in ["base", "skills"] {
        assert_eq!(made["phases"][phase]["steps"], 2, "{made}");
        assert!(made["phases"][phase]["tokens"].as_u64() > Some(8), "{made}");
    }
    json_of(&make("two"));
    let weights =
        |run: &str| std::fs::read(folder.path().join(run).join("model/model.safetensors")).expect("weights");
    assert!(weights("one") == weights("two"), "the same seed gives the same weights");
    assert!(folder.path().join("one/model/step_reward/heads.safetensors").exists());
    let described = json_of(&run(folder.path(), &["models", "one/model", "--json"]));
    assert_eq!((&described["hidden_size"], &described["layers"]), (&json!(32), &json!(1)));
}

const TRAIN: [&str; 6] = ["--train-set", "steps=3", "--train-set", "batch=2", "--json", "-q"];

fn train<'a>(file: &'a str, out: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["train", file, "--out", out][..], &TRAIN, more].concat()
}

#[test]
fn train_makes_a_checkpoint_that_answers() {
    let folder = scratch();
    let row = |a: u32| json!({"prompt": format!("g={a};e=g+1;e?"), "completion": format!("g={a};e={a}+1={}#{}", a + 1, a + 1)});
    let rows: String = (11..15).map(|a| format!("{}\n", row(a))).collect();
    write(folder.path(), "rows.jsonl", &rows);
    let trained = json_of(&run(folder.path(), &train("rows.jsonl", "model", &[])));
    assert_eq!((&trained["model"], &trained["rows"]), (&json!("model"), &json!(4)));
    assert_eq!(trained["summary"]["steps"], 3);
    assert!(trained["summary"]["final_loss"].is_number(), "{trained}");
    let ask = ["ask", "g=50;e=g-1;e?", "--model", "model", "--strategy", "single", "--json", "-q"];
    assert!(json_of(&run(folder.path(), &ask))["usage"]["completion_tokens"].as_u64() > Some(0));

    let refused = run(folder.path(), &train("rows.jsonl", "other", &["--objective", "dpo"]));
    assert_eq!(code(&refused), 3, "prompt-completion rows are no preferences: {}", stderr(&refused));
    assert!(stderr(&refused).contains("hint: "), "{}", stderr(&refused));
    assert!(!folder.path().join("other").exists());
}

/// The embedded model in a folder of its own.
fn copied_model(folder: &Path, name: &str) {
    let embedded = json_of(&run(folder, &["models", "embedded", "--json"]));
    let from = folder.join(embedded["folder"].as_str().expect("its folder"));
    std::fs::create_dir(folder.join(name)).expect("a folder");
    for file in ["config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"] {
        std::fs::copy(from.join(file), folder.join(name).join(file)).expect("the file is copied");
    }
}

#[test]
fn messages_are_written_as_the_chat_template_of_the_checkpoint_wants_them() {
    let folder = scratch();
    copied_model(folder.path(), "m");
    let user = json!({"role": "user", "content": "g=50;e=g-1;e?"});
    let reply = json!({"role": "assistant", "content": "g=50;e=50-1=49#49"});
    let two = json!([{"role": "system", "content": "g=1"}, user]);
    let write_rows = |name: &str, prompt: &Value, completion: &Value| {
        write(folder.path(), name, &format!("{}\n", json!({"prompt": prompt, "completion": completion})));
    };
    write_rows("one.jsonl", &json!([user]), &json!([reply]));
    write_rows("two.jsonl", &two, &json!([reply]));
    write_rows("turns.jsonl", &json!([user]), &json!([reply, user, reply]));

    json_of(&run(folder.path(), &train("one.jsonl", "out-1", &["--model", "m"])));
    let refused = run(folder.path(), &train("two.jsonl", "out-2", &["--model", "m"]));
    assert_eq!(code(&refused), 3, "{}", stderr(&refused));
    assert!(
        stderr(&refused).contains("row 1: its prompt has 2 messages, and `m` has no chat template"),
        "{}",
        stderr(&refused)
    );
    let refused = run(folder.path(), &train("turns.jsonl", "out-3", &["--model", "m"]));
    assert_eq!(code(&refused), 3, "{}", stderr(&refused));
    assert!(stderr(&refused).contains("row 1: its completion has 3 messages"), "{}", stderr(&refused));

    write(
        &folder.path().join("m"),
        "chat_template.jinja",
        "{% for m in messages %}{{ m.content }};{% endfor %}",
    );
    json_of(&run(folder.path(), &train("two.jsonl", "out-4", &["--model", "m"])));
    write(&folder.path().join("m"), "chat_template.jinja", "{{ 'Ж' }}{{ messages[0].content }}");
    let unknown = run(folder.path(), &train("two.jsonl", "out-5", &["--model", "m"]));
    assert!(
        stderr(&unknown).contains("cannot write `Жg=1`"),
        "the template's words are read: {}",
        stderr(&unknown)
    );
}

#[test]
fn a_model_folder_with_a_chat_template_is_asked_in_the_chat_voice() {
    let folder = scratch();
    copied_model(folder.path(), "m");
    let prompt = |more: &[&str]| {
        let ask = ["ask", "g=50;e=g-1;e?", "--model", "m", "--strategy", "single", "--json", "-q"];
        let answer = json_of(&run(folder.path(), &[&ask[..], more].concat()));
        let nodes = answer["trace"]["nodes"].as_array().cloned().unwrap_or_default();
        nodes
            .iter()
            .find(|node| node["kind"] == "generated")
            .map(|node| node["prompt"].clone())
            .expect("a call")
    };
    let compact = prompt(&[]);
    assert_eq!(compact, prompt(&["--voice", "compact"]), "without a template it is a model of our own");
    write(&folder.path().join("m"), "chat_template.jinja", "{{ 'g=50;e=g-1;e?' }}");
    let chat = prompt(&[]);
    assert_eq!(
        chat,
        prompt(&["--voice", "chat"]),
        "a model with a template was tuned to follow instructions"
    );
    assert_ne!(chat, compact);
}

#[test]
fn traces_are_answered_from_and_learned_from() {
    let folder = scratch();
    let eval = ["eval", "--strategy", "self-consistency", "--set", "samples=4", "--set", "early_stop=false"];
    let problems = ["--problems", "30", "--task-set", "steps=2", "--json", "-q"];
    let measured = |more: &[&str]| json_of(&run(folder.path(), &[&eval[..], &problems, more].concat()));
    let first = measured(&["--traces", "traces.jsonl"]);
    let text = std::fs::read_to_string(folder.path().join("traces.jsonl")).expect("the traces");
    assert_eq!(text.lines().count(), 30);
    let trace: Value = serde_json::from_str(text.lines().next().unwrap_or_default()).expect("a trace");
    let verdicts =
        trace["nodes"].as_array().into_iter().flatten().filter(|n| n["kind"] == "evaluated").count();
    assert_eq!(verdicts, 4, "every sample is judged: {trace}");

    let again = measured(&["--replay", "traces.jsonl", "--voice", "compact"]);
    assert_eq!(again["accuracy"], first["accuracy"], "the recorded samples give the same answers");
    let chat = measured(&["--replay", "traces.jsonl"]);
    assert_eq!(chat["accuracy"], first["accuracy"], "a question is found however it is asked");

    let imitated = json_of(&run(folder.path(), &train("traces.jsonl", "sft", &[])));
    assert!(imitated["rows"].as_u64() > Some(0), "what was right is imitated: {imitated}");
    let preferred = json_of(&run(folder.path(), &train("traces.jsonl", "dpo", &["--objective", "dpo"])));
    assert!(preferred["rows"].as_u64() > Some(0), "what was right is preferred: {preferred}");
    let selected = json_of(&run(folder.path(), &train("traces.jsonl", "selected", &["--keep", "selected"])));
    assert!(selected["rows"].as_u64() >= Some(25), "one for each problem with an answer: {selected}");

    let unjudged =
        trace["nodes"].as_array().into_iter().flatten().filter(|n| n["kind"] != "evaluated").cloned();
    let mut bare = trace.clone();
    bare["nodes"] = unjudged.collect();
    write(folder.path(), "bare.jsonl", &format!("{bare}\n"));
    let nothing = run(folder.path(), &train("bare.jsonl", "none", &[]));
    assert_eq!(code(&nothing), 3, "{}", stderr(&nothing));
    assert!(
        stderr(&nothing).contains("hint: verdicts are written by `elenchus eval --traces`"),
        "{}",
        stderr(&nothing)
    );
    bare["version"] = json!(99);
    write(folder.path(), "newer.jsonl", &format!("{bare}\n"));
    let newer = run(folder.path(), &["eval", "--replay", "newer.jsonl", "--problems", "1"]);
    assert_eq!(code(&newer), 3, "{}", stderr(&newer));
    assert!(stderr(&newer).contains("format version 99"), "{}", stderr(&newer));
}

#[test]
fn completions_name_the_commands_for_every_shell() {
    let folder = scratch();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = run(folder.path(), &["completions", shell]);
        assert_eq!(code(&output), 0, "{shell}: {}", stderr(&output));
        let script = String::from_utf8_lossy(&output.stdout);
        for word in ["elenchus", "improve", "compare", "max-total-tokens"] {
            assert!(script.contains(word), "{shell}: no `{word}`");
        }
    }
    let unknown = run(folder.path(), &["completions", "bsh"]);
    assert!(code(&unknown) == 2 && stderr(&unknown).contains("bash"), "{}", stderr(&unknown));
}

#[test]
fn quiet_commands_say_nothing_beside_the_result() {
    let folder = scratch();
    let tiny = [
        "rounds.problems=24",
        "rounds.samples=2",
        "rounds.probe.problems=8",
        "rounds.probe.samples=2",
        "rounds.train.steps=2",
        "rounds.train.batch=4",
        "rounds.evaluate.problems=12",
        "rounds.evaluate.samples=2",
    ];
    let command =
        ["improve", "--rounds", "1", "--out", "run", "--no-control", "--task-set", "steps=2", "--quiet"];
    let output = run(folder.path(), &set(&command, &tiny));
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert_eq!(stderr(&output), "", "no line per round");
    assert!(!output.stdout.is_empty(), "the result is told all the same");
}
