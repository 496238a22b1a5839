//! What a vote adds to the time of its endpoint: `cargo bench -p elenchus-control --bench latency`. Prints one JSON line per
//! kind of server: median and 90th percentile of a vote of five on an endpoint that takes 50 ms per request.
//!
//! One server gives five choices in one request, the other ignores `n`, so that five requests run at once.

#[path = "../../generate/tests/support/mod.rs"]
mod support;

use elenchus_control::strategy;
use elenchus_generate::Context;
use elenchus_task::{Split, task};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{Duration, Instant};
use support::{Part, Received, Server, chat, ok};

const VOTES: usize = 101;
const ENDPOINT: Duration = Duration::from_millis(50);

async fn measure(several: bool) -> Result<(), Box<dyn std::error::Error>> {
    let server = Server::start(move |received: &Received, _| {
        let wanted = if several { received.body["n"].as_u64().unwrap_or(1) as usize } else { 1 };
        let mut parts = vec![Part::Wait(ENDPOINT)];
        parts.extend(ok(&chat(&vec!["1 + 1 = 2\nAnswer: 2"; wanted])));
        parts
    })
    .await;
    // Whether the server knows `n` is learned from its first reply.
    let model = server.model();
    let context = Context::builder().role("actor", Arc::new(model)).build()?;
    let arithmetic = task("arithmetic", &Value::Null)?;
    let problems = arithmetic.problems(Split::Test, VOTES, 1)?;
    let vote = strategy("self-consistency", json!({"samples": 5, "early_stop": false}))?;
    let mut milliseconds = Vec::with_capacity(VOTES);
    for problem in &problems {
        let start = Instant::now();
        let answer = vote.run(&context, arithmetic.as_ref(), problem).await?;
        milliseconds.push(start.elapsed().as_secs_f64() * 1000.0);
        assert_eq!((answer.answer.as_deref(), answer.confidence), (Some("2"), Some(1.0)));
    }
    milliseconds.sort_by(f64::total_cmp);
    let at = |share: f64| milliseconds[((VOTES - 1) as f64 * share) as usize];
    println!(
        "{{\"server\":\"{}\",\"votes\":{VOTES},\"endpoint_ms\":{},\"median_ms\":{:.1},\"p90_ms\":{:.1},\"most_at_once\":{}}}",
        if several { "n choices in a request" } else { "one choice in a request" },
        ENDPOINT.as_millis(),
        at(0.5),
        at(0.9),
        server.most_concurrent()
    );
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    measure(true).await?;
    measure(false).await
}
