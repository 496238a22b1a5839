//! Models of roles beside the actor's: `[roles]` tables.

use crate::support::{Act, Running, Stub, question};
use elenchus_recipe::EndpointDefaults;
use serde_json::{Value, json};

fn table(model: &str, url: Option<&str>) -> EndpointDefaults {
    EndpointDefaults {
        model: Some(model.into()),
        base_url: url.map(Into::into),
        api_key_variable: Some("ELENCHUS_TEST_NO_KEY".into()),
        ..EndpointDefaults::default()
    }
}

fn models(stub: &Stub) -> Vec<Value> {
    let chats = stub.asked().into_iter().filter(|asked| asked.path.ends_with("/chat/completions"));
    chats.map(|asked| asked.body["model"].clone()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_is_answered_by_the_model_of_its_table() {
    let (stub, critic) =
        (Stub::answering(&["Answer: 4"]).await, Stub::answering(&["First wrong step: none"]).await);
    let gateway = Running::with(&[&stub], |settings| {
        settings.roles.insert("critic".into(), table("large", Some(&critic.url)));
        settings.roles.insert("judge".into(), table("sharp", None));
    })
    .await;
    let (status, answer) = gateway.ask(question("elenchus/critique-and-refine/little", "What is 2+2?")).await;
    assert_eq!(status, 200, "{answer}");
    assert!(!models(&critic).is_empty() && models(&critic).iter().all(|model| model == "large"), "{answer}");
    assert!(!models(&stub).is_empty() && models(&stub).iter().all(|model| model == "little"), "the actor's");
    let calls = models(&stub).len() + models(&critic).len();
    assert_eq!(answer["elenchus"]["budget"]["spent"]["calls"], calls, "one budget counts both: {answer}");

    // Without an address the model is the upstreams'.
    let mut body = question("elenchus/best-of-n@2/little", "What is 2+2?");
    body["elenchus"] =
        json!({"settings": {"evaluator": "judge", "evaluator_settings": {"reading": "sample"}}});
    let (status, answer) = gateway.ask(body).await;
    assert_eq!(status, 200, "{answer}");
    assert!(models(&stub).iter().any(|model| model == "sharp"), "{:?}", models(&stub));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_without_a_model_changes_nothing_at_a_reload() {
    let stub = Stub::answering(&["Answer: 4"]).await;
    let gateway = Running::before(&[&stub]).await;
    let mut settings = elenchus_recipe::ServiceSettings {
        upstreams: vec![elenchus_recipe::UpstreamSettings::new(&stub.url)],
        ..Default::default()
    };
    settings.roles.insert("critic".into(), EndpointDefaults::default());
    let error = gateway.handle.reload((settings, Default::default())).unwrap_err().to_string();
    assert!(error.contains("`critic`") && error.contains("hint:"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_layers_of_a_table_are_those_around_its_model() {
    let (stub, broken) = (Stub::answering(&["Answer: 4"]).await, Stub::start(|_| Act::Close).await);
    let gateway = Running::with(&[&stub], |settings| {
        let mut judge = table("sharp", Some(&broken.url));
        judge.layers.retry.attempts = 1;
        settings.roles.insert("judge".into(), judge);
    })
    .await;
    let mut body = question("elenchus/best-of-n@2/little", "What is 2+2?");
    body["elenchus"] = json!({"settings": {
        "evaluator": "judge", "evaluator_settings": {"reading": "sample", "swap": false, "samples": 1}}});
    gateway.ask(body).await;
    assert_eq!(models(&broken).len(), 2, "each candidate once, and no call again");
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_of_recipes_are_made_again_as_often_as_the_settings_say() {
    let broken = Stub::start(|_| Act::Close).await;
    let gateway = Running::with(&[&broken], |settings| settings.retry.attempts = 2).await;
    let (status, error) = gateway.ask(question("elenchus/single/little", "x")).await;
    assert_eq!((status, broken.asked().len()), (502, 2), "{error}");
}
