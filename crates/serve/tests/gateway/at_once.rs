//! How many requests are at an upstream at once: after it refused some, beside a caller's own account, by a limit.

use crate::support::{Act, Running, Stub, completion, question};
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Most requests that began within this time of each other.
fn most_at_once(begun: &[Instant], within: Duration) -> usize {
    let close = |first: &Instant| begun.iter().filter(|at| **at >= *first && **at < *first + within).count();
    begun.iter().map(close).max().unwrap_or(0)
}

/// Takes a tenth of a second for each answer, and refuses everything while it is told to.
async fn slow(refuses: Arc<AtomicUsize>, begun: Arc<std::sync::Mutex<Vec<Instant>>>) -> Stub {
    Stub::start(move |_| {
        if refuses.load(Ordering::SeqCst) == 1 {
            return Act::Json(429, json!({"error": {"message": "too much"}}));
        }
        begun.lock().unwrap().push(Instant::now());
        let answer = completion(&["Answer: 4".into()]).to_string();
        Act::Pieces { pieces: vec![answer], pause: Duration::from_millis(100) }
    })
    .await
}

async fn wave(gateway: &Running, count: usize) -> Vec<u16> {
    let asks = (0..count).map(|_| gateway.ask(question("little", "x")));
    futures::future::join_all(asks).await.into_iter().map(|(status, _)| status).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_passed_on_waits_its_turn_once_the_upstream_refused_some() {
    let (refuses, begun) = (Arc::new(AtomicUsize::new(0)), Arc::default());
    let stub = slow(Arc::clone(&refuses), Arc::clone(&begun)).await;
    let gateway = Running::before(&[&stub]).await;
    let within = Duration::from_millis(90);
    assert!(wave(&gateway, 80).await.iter().all(|status| *status == 200));
    let free = most_at_once(&begun.lock().unwrap(), within);
    assert!(free > 40, "nobody waits at first: {free}");
    refuses.store(1, Ordering::SeqCst);
    assert!(wave(&gateway, 20).await.iter().all(|status| *status == 429), "its refusals are passed on");
    refuses.store(0, Ordering::SeqCst);
    begun.lock().unwrap().clear();
    assert!(wave(&gateway, 80).await.iter().all(|status| *status == 200), "all have their turn");
    let most = most_at_once(&begun.lock().unwrap(), within);
    assert!((10..=24).contains(&most), "half of what it refused, or 16, and a few more with time: {most}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_callers_own_account_may_not_holds_nobody_else_up() {
    let (refuses, begun) = (Arc::new(AtomicUsize::new(1)), Arc::default());
    let stub = slow(Arc::clone(&refuses), Arc::clone(&begun)).await;
    let gateway = Running::before(&[&stub]).await;
    let theirs = (0..20).map(|_| {
        gateway.post("/v1/chat/completions").bearer_auth("sk-theirs").json(&question("little", "x")).send()
    });
    for refused in futures::future::join_all(theirs).await {
        assert_eq!(refused.unwrap().status(), 429);
    }
    refuses.store(0, Ordering::SeqCst);
    assert!(wave(&gateway, 80).await.iter().all(|status| *status == 200));
    let free = most_at_once(&begun.lock().unwrap(), Duration::from_millis(90));
    assert!(free > 40, "{free}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_that_is_set_holds_for_all_requests() {
    let (refuses, begun) = (Arc::default(), Arc::default());
    let stub = slow(refuses, Arc::clone(&begun)).await;
    let gateway = Running::with(&[&stub], |settings| {
        let usual = elenchus_generate::LimitSettings::default();
        settings.upstreams[0].limit =
            Some(elenchus_generate::LimitSettings { start: 2, least: 1, most: 2, ..usual });
    })
    .await;
    let mut recipe = question("elenchus/self-consistency@4/little", "x");
    recipe["elenchus"] = json!({"settings": {"early_stop": false}});
    let (statuses, (status, answer)) = tokio::join!(wave(&gateway, 6), gateway.ask(recipe));
    assert!(statuses.iter().all(|status| *status == 200) && status == 200, "{statuses:?} {answer}");
    assert!(most_at_once(&begun.lock().unwrap(), Duration::from_millis(90)) <= 2);
}
