//! The page's debug mode, compositions, and how an answer ended.

use crate::browser::{Browser, SENDS, ask, choose, open};
use crate::support::{Act, Running, Stub, completion, question};
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn recipes_are_composed_by_text_and_found_again_by_it() {
    let Some(browser) = Browser::open(1280).await else { return };
    let stub = Stub::answering(&["Answer: 4"]).await;
    let gateway = Running::before(&[&stub]).await;
    browser.go(&format!("{}/", gateway.url)).await;
    browser.wait("document.querySelectorAll('#recipe option').length > 5").await;
    choose(&browser, "recipe", "*").await;
    choose(&browser, "recipe-text", "self-consistency thn single").await;
    browser.wait("document.querySelector('#estimate.wrong') !== null").await;
    let said = browser.value("document.getElementById('estimate').textContent").await;
    assert!(said.as_str().unwrap().contains("`thn`"), "what is wrong is said before it is asked: {said}");
    browser.keys("#question", "What is 2+2?").await;
    browser.click("#send").await;
    browser.wait("document.querySelector('.answer.bad') !== null").await;
    assert_eq!(browser.value("document.querySelector('.came').hidden").await, true, "nothing came about");
    let words = browser.value("document.querySelector('.answer.bad').textContent").await;
    assert!(!words.as_str().unwrap().contains("hint"), "what to try stands apart: {words}");
    let composed = "self-consistency@2 else plain";
    choose(&browser, "recipe-text", composed).await;
    browser.wait("document.getElementById('estimate').textContent.startsWith('At most')").await;
    browser.click("#send").await;
    browser.wait("document.querySelector('[data-reaction=love]') !== null").await;
    assert_eq!(gateway.ask(question("elenchus/single/little", "3+3?")).await.0, 200);
    gateway.traces(2).await;
    browser.click("[data-view=browse]").await;
    browser.wait("document.querySelectorAll('#traces a').length === 2").await;
    let proposed = format!(
        "[...document.querySelectorAll('#known-recipes option')].some((o) => o.value === '{composed}')"
    );
    browser.wait(&proposed).await;
    for (filter, value, count) in
        [("recipe", composed, 1), ("model", "other", 0), ("key", "nobody", 0), ("until", "2001-01-01", 0)]
    {
        choose(&browser, &format!("filter-{filter}"), value).await;
        browser.click("#filter-form button").await;
        browser.wait(&format!("document.querySelectorAll('#traces a').length === {count}")).await;
        choose(&browser, &format!("filter-{filter}"), "").await;
    }
    // A worst case that is huge reads as a warning.
    browser.click("[data-view=ask]").await;
    choose(&browser, "recipe", "rain").await;
    browser.wait("document.querySelector('#estimate.warning') !== null").await;
    let said = browser.value("document.getElementById('estimate').textContent").await;
    assert!(said.as_str().unwrap().contains(",000 calls"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn debug_mode_addresses_each_part_and_rejects_each_kind_of_stage() {
    let Some(browser) = Browser::open(1280).await else { return };
    let stub = Stub::answering(&["First 2.\nThen 2 more.\nAnswer: 4", "First 2.\nAnswer: 5"]).await;
    let gateway = Running::before(&[&stub]).await;
    let (status, answer) = gateway.ask(question("elenchus/critique-and-refine/little", "2+2?")).await;
    assert_eq!(status, 200, "{answer}");
    let id = answer["elenchus"]["trace_id"].as_str().unwrap().to_string();
    open(&browser, &gateway, &id).await;
    browser.click("#debug").await;
    browser.click("#trace [data-open-all]").await;
    let closed = "document.querySelectorAll('#trace details[data-stage]:not([open])').length";
    assert_eq!(browser.value(closed).await, 0, "all are opened at once");
    browser.picture("debug").await;
    let part = |stage: u64| format!("#trace [data-stage='{stage}'] [data-field=part]");
    let parts = format!("[...document.querySelector(\"{}\").options].map((o) => o.value)", part(0));
    assert_eq!(browser.value(&parts).await, json!(["answer", "step", "sub_question", "evidence"]));
    let pick = async |stage: u64, what: &str, value: &str| {
        let field = format!("document.querySelector(\"#trace [data-stage='{stage}'] [data-field={what}]\")");
        browser
            .value(&format!("({field}.value = {}, {field}.dispatchEvent(new Event('change')))", json!(value)))
            .await
    };
    let done = async |words: &str| {
        browser.wait(&format!("document.getElementById('status').textContent.startsWith('{words}')")).await;
        browser.value("document.getElementById('status').textContent = ''").await;
    };
    pick(0, "part", "step").await;
    pick(0, "step", "1").await;
    let text = "document.querySelector(\"#trace [data-stage='0'] [data-field=edit]\").value";
    assert_eq!(browser.value(text).await, "Then 2 more.", "the step that is addressed");
    pick(0, "edit", "Then 3 more.").await;
    browser.click("#trace [data-stage='0'] [data-store]").await;
    done("Edit stored").await;
    pick(0, "part", "evidence").await;
    pick(0, "edit", "2 and 2 are given.").await;
    browser.click("#trace [data-stage='0'] [data-store]").await;
    done("Edit stored").await;
    let (_, trace) = gateway.get(&format!("/v1/traces/{id}")).await;
    let stages = trace["stages"].as_array().unwrap().clone();
    for stage in &stages {
        browser.click(&format!("#trace [data-stage='{}'] [data-judge=reject]", stage["id"])).await;
        done("Stage rejected").await;
    }
    let primary = "[...document.querySelectorAll('#trace details[data-stage]')].map((stage) => \
        stage.querySelectorAll(':scope > .inside .primary').length).every((count) => count === 1)";
    assert_eq!(browser.value(primary).await, true, "one control of a stage stands out");
    let (_, trace) = gateway.get(&format!("/v1/traces/{id}")).await;
    let said = trace["feedback"].as_array().unwrap();
    assert_eq!(said[0]["edit"], json!({"part": "step", "step": 1, "text": "Then 3 more."}));
    assert_eq!(said[1]["edit"], json!({"part": "evidence", "text": "2 and 2 are given."}));
    assert_eq!(said.len(), 2 + stages.len(), "each kind of stage can be rejected");
    // Run again with a step: the text is whole, with that step in it.
    pick(0, "part", "step").await;
    pick(0, "step", "1").await;
    pick(0, "edit", "Then 3 more.").await;
    browser.click("#trace [data-stage='0'] [data-rerun=edited]").await;
    browser.wait("document.querySelector('#trace .panel:nth-child(2) .edited') !== null").await;
    let child = gateway.traces(2).await[0]["id"].as_str().unwrap().to_string();
    let (_, trace) = gateway.get(&format!("/v1/traces/{child}")).await;
    assert_eq!(trace["stages"][0]["text"], "First 2.\nThen 3 more.\nAnswer: 4");
    assert_eq!(browser.errors().await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn how_an_answer_ended_and_how_sure_it_is_are_said_everywhere() {
    let Some(browser) = Browser::open(1280).await else { return };
    let stub = Stub::start(|asked| {
        if asked.path.ends_with("/models") {
            return Act::Json(200, json!({"data": [{"id": "little", "created": 1, "owned_by": "stub"}]}));
        }
        if asked.text.contains("break it") {
            return Act::Json(400, json!({"error": {"message": "out of memory"}}));
        }
        // A short text would be taken for an answer itself.
        let unsure = "I cannot say how many without knowing more of them. ".repeat(6);
        let text = if asked.text.contains("unsure") { unsure.as_str() } else { "Answer: 4" };
        let count = asked.body["n"].as_u64().unwrap_or(1) as usize;
        Act::Json(200, completion(&vec![text.to_string(); count]))
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    crate::calibration::fitted().write(&folder.path().join("calibrations.json")).unwrap();
    let gateway = Running::over(folder, &[&stub], Default::default(), |_| {}).await;
    browser.go(&format!("{}/", gateway.url)).await;
    browser.wait("document.querySelectorAll('#recipe option').length > 5").await;
    ask(&browser, "self-consistency").await;
    let facts = "document.querySelector('.facts').textContent";
    browser.wait(&format!("{facts}.includes('(calibrated')")).await;
    let id = gateway.traces(1).await[0]["id"].as_str().unwrap().to_string();
    browser.click("[data-better]").await;
    let begun = browser.value("document.querySelector('[data-field=correction]').value").await;
    assert_eq!(begun, "Answer: 4", "a better answer begins with the one that is there");
    browser.keys("[data-field=correction]", &format!("2{SENDS}")).await;
    browser.wait("document.getElementById('status').textContent.startsWith('Better answer stored')").await;
    open(&browser, &gateway, &id).await;
    let told = browser.value("document.querySelector('#trace .facts').textContent").await;
    assert!(told.as_str().unwrap().contains("(calibrated"), "as it was given: {told}");

    browser.go(&format!("{}/#ask", gateway.url)).await;
    browser.command("refresh", json!({})).await;
    browser.wait("document.querySelectorAll('#recipe option').length > 5").await;
    browser.keys("#question", "unsure?").await;
    browser.click("#send").await;
    browser
        .wait("document.getElementById('status').textContent.startsWith('The recipe gave no sure answer')")
        .await;
    browser.picture("abstained").await;
    assert_eq!(
        browser.value("document.querySelector('[data-reaction]')").await,
        Value::Null,
        "nothing to love"
    );
    assert_eq!(browser.value("document.querySelector('[data-field=comment]') !== null").await, true);
    assert_eq!(gateway.ask(question("elenchus/self-consistency/little", "break it")).await.0, 400);
    let reaction = json!({"trace_id": id, "reaction": "up"});
    assert_eq!(gateway.send("/v1/feedback", reaction).await.0, 200);
    gateway.traces(3).await;
    browser.click("[data-view=browse]").await;
    browser.wait("document.querySelectorAll('#traces a').length === 3").await;
    browser.picture("browse-ends").await;
    let badges =
        browser.value("[...document.querySelectorAll('#traces .badge')].map((b) => b.textContent)").await;
    assert_eq!(badges, json!(["failed", "abstained", "▲ up"]));
    let list = browser.value("document.getElementById('traces').textContent").await;
    assert!(list.as_str().unwrap().contains("% (raw)"), "a list says what its confidence is: {list}");

    // Failures are counted apart, and what nobody spoke of is folded away.
    assert_eq!(gateway.ask(question("elenchus/single/little", "3+3?")).await.0, 200);
    gateway.traces(4).await;
    browser.click("[data-view=totals]").await;
    browser.wait("document.querySelectorAll('#totals tbody tr').length === 1").await;
    let column = |name: &str| {
        format!(
            "[...document.querySelectorAll('#totals th button')].findIndex((b) => b.textContent.startsWith('{name}'))"
        )
    };
    for (name, wanted) in [("Answered", "1"), ("Abstained", "1"), ("Failed", "1"), ("Corrected", "1")] {
        let cell = format!("document.querySelector('#totals tbody tr').cells[{}].textContent", column(name));
        assert_eq!(browser.value(&cell).await, wanted, "{name}");
    }
    browser.click("#totals-all").await;
    browser.wait("document.querySelectorAll('#totals tbody tr').length === 2").await;
    let names = "[...document.querySelectorAll('#totals tbody th')].map((h) => h.textContent)";
    assert_eq!(browser.value(names).await, json!(["self-consistency", "single"]), "most spoken of first");
    browser.click("#totals thead th:first-child button").await;
    browser.click("#totals thead th:first-child button").await;
    assert_eq!(
        browser.value(names).await,
        json!(["single", "self-consistency"]),
        "sorted by name, downwards"
    );
    let sorted = "document.querySelector('#totals thead th').getAttribute('aria-sort')";
    assert_eq!(browser.value(sorted).await, "descending");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recipe_without_an_answer_says_why_and_what_was_tried() {
    let Some(browser) = Browser::open(1280).await else { return };
    let stub = Stub::answering(&["I cannot say."]).await;
    let gateway = Running::before(&[&stub]).await;
    browser.go(&format!("{}/", gateway.url)).await;
    browser.wait("document.querySelectorAll('#recipe option').length > 5").await;
    browser.keys("#question", "What is 2+2?").await;
    choose(&browser, "recipe", "real-critic").await;
    browser.click("#send").await;
    browser.wait("document.getElementById('panels').textContent.includes('No sure answer')").await;
    browser.picture("no-answer").await;
    let shown = browser.value("document.getElementById('panels').textContent").await;
    assert!(shown.as_str().unwrap().contains("Why: "), "{shown}");
    let status = browser.value("document.getElementById('status').textContent").await;
    assert_eq!(status, "The recipe gave no sure answer; the trace is stored.");
    assert_eq!(browser.value("document.querySelectorAll('#panels details.came')[0].hidden").await, false);
    assert_eq!(browser.errors().await, Vec::<String>::new());
}
