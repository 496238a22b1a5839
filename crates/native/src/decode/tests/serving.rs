//! One service, several callers.

use super::*;
use std::sync::mpsc;
use std::time::Duration;

fn service(model: &Model, rows: usize) -> DecodeService {
    DecodeService::new(model, DecoderOptions { threads: 2, max_batch_rows: rows, ..Default::default() })
        .unwrap()
}

fn request(config: &ModelConfig, seed: u64) -> DecodeRequest {
    DecodeRequest {
        prompt: prompt(config, 5 + seed as usize * 7 % 30, seed),
        samples: 1 + seed as usize % 4,
        seed,
        max_new_tokens: 5 + seed as usize * 11 % 40,
        ..Default::default()
    }
}

#[test]
fn concurrent_callers_get_what_one_alone_gets() {
    let config = config(50, 40, 4, 2);
    let model = model(&config, 1);
    let requests: Vec<DecodeRequest> = (0..12).map(|seed| request(&config, seed)).collect();
    let expected = decoder(&model, 1, 8).decode(&requests).unwrap();
    let service = service(&model, 8);
    std::thread::scope(|scope| {
        for (request, expected) in requests.iter().zip(&expected) {
            let service = service.clone();
            scope.spawn(move || {
                let score = ScoreRequest {
                    prefix: request.prompt.clone(),
                    continuations: expected.iter().map(|decoded| decoded.tokens.clone()).collect(),
                    ..Default::default()
                };
                let handle = service.submit(request.clone()).unwrap();
                let scored = service.score(vec![score]).unwrap().remove(0);
                for (scored, expected) in scored.iter().zip(expected) {
                    assert!(scored.logprobs == expected.logprobs, "scored while others decode");
                }
                let labels =
                    service.label_logprobs(vec![request.prompt.clone()], vec![expected[0].tokens[0]]);
                assert_eq!(labels.unwrap()[0][0], expected[0].logprobs[0]);
                assert!(handle.wait().unwrap() == *expected);
            });
        }
    });
}

#[test]
fn events_come_token_by_token() {
    let config = config(50, 40, 4, 2);
    let model = model(&config, 1);
    let request = DecodeRequest { samples: 3, ..request(&config, 3) };
    let expected = decoder(&model, 1, 8).decode(std::slice::from_ref(&request)).unwrap().remove(0);
    let service = service(&model, 2);
    let mut handle = service.submit(request).unwrap();
    let mut written = vec![Vec::new(); 3];
    let mut finished = 0;
    while let Some(event) = handle.next_event() {
        match event {
            DecodeEvent::Token(event) => written[event.sample].push(event.token),
            DecodeEvent::Finished { sample, decoded } => {
                assert_eq!(written[sample], decoded.tokens, "all tokens came before the end");
                assert!(decoded == expected[sample]);
                finished += 1;
            }
        }
    }
    assert_eq!(finished, 3);
}

#[test]
fn cancelled_requests_end_and_others_go_on() {
    let config = ModelConfig { max_positions: 5000, ..config(50, 40, 4, 2) };
    let model = model(&config, 1);
    let service = service(&model, 4);
    let endless = DecodeRequest { max_new_tokens: 4000, samples: 3, ..request(&config, 1) };
    let mut cancelled = service.submit(endless.clone()).unwrap();
    assert!(matches!(cancelled.next_event(), Some(DecodeEvent::Token(_))));
    cancelled.cancel();
    let samples = cancelled.wait().unwrap();
    assert_eq!(samples.len(), 3);
    assert!(samples.iter().all(|decoded| decoded.finish == DecodeFinish::Cancelled));
    // Dropping the handle cancels too; so does a sink that breaks. Were they not cancelled, the next would wait long.
    drop(service.submit(endless.clone()).unwrap());
    let (sender, receiver) = mpsc::channel();
    service
        .submit_with(endless, move |event| {
            let _ = sender.send(event);
            ControlFlow::Break(())
        })
        .unwrap();
    receiver.recv().unwrap();
    assert!(
        receiver.recv_timeout(Duration::from_secs(5)).is_err(),
        "a sink that broke hears nothing more and is dropped"
    );
    let other = request(&config, 2);
    let expected = decoder(&model, 1, 8).decode(std::slice::from_ref(&other)).unwrap().remove(0);
    assert!(service.submit(other).unwrap().wait().unwrap() == expected);
}

#[test]
fn new_weights_serve_later_requests_only() {
    let config = config(50, 40, 4, 2);
    let (old, new) = (model(&config, 1), model(&config, 2));
    let request = DecodeRequest { max_new_tokens: 60, ..request(&config, 3) };
    let expected: Vec<Vec<Decoded>> = [&old, &new]
        .iter()
        .map(|model| decoder(model, 1, 8).decode(std::slice::from_ref(&request)).unwrap().remove(0))
        .collect();
    let service = service(&old, 8);
    let before = service.submit(request.clone()).unwrap();
    service.swap(&new).unwrap();
    let after = service.submit(request.clone()).unwrap();
    assert!(before.wait().unwrap() == expected[0]);
    assert!(after.wait().unwrap() == expected[1]);
    let other = model(&super::config(51, 40, 4, 2), 1);
    assert_eq!(service.swap(&other), Err(DecodeError::OtherShape));
    let bad = DecodeRequest { prompt: vec![], ..request };
    assert!(matches!(service.submit(bad), Err(DecodeError::EmptyPrompt { .. })));
}

#[test]
fn a_service_that_ends_tells_who_waits() {
    let config = ModelConfig { max_positions: 5000, ..config(50, 40, 4, 2) };
    let model = model(&config, 1);
    let service = service(&model, 4);
    let handle = service.submit(DecodeRequest { max_new_tokens: 4000, ..request(&config, 1) }).unwrap();
    drop(service);
    let samples = handle.wait().unwrap();
    assert!(samples.iter().all(|decoded| decoded.finish == DecodeFinish::Cancelled));
}
