//! Ends, stops, limits and refusals.

use super::*;

/// A model that writes one token after another: token t is followed by t + 1, whatever was before.
///
/// One layer whose weights are zero leaves the embedding as it is, and the head maps token t's embedding to t + 1.
fn counter(vocabulary: usize, eos: Vec<u32>) -> Model {
    let config = ModelConfig {
        tie_embeddings: false,
        layers: 1,
        eos_token_ids: eos,
        ..super::config(vocabulary, vocabulary, 1, 1)
    };
    let layout = crate::Layout::new(&config);
    let mut parameters = vec![0.0f32; layout.total()];
    for parameter in layout.parameters() {
        let place = &mut parameters[parameter.range.clone()];
        match parameter.name.as_str() {
            "model.embed_tokens.weight" => (0..vocabulary).for_each(|t| place[t * vocabulary + t] = 1.0),
            "lm_head.weight" => {
                (0..vocabulary).for_each(|t| place[(t + 1) % vocabulary * vocabulary + t] = 10.0)
            }
            name if name.ends_with("norm.weight") => place.fill(1.0),
            _ => {}
        }
    }
    Model::from_parameters(config, parameters).unwrap()
}

fn texts() -> TokenTexts {
    TokenTexts::new((0..20u8).map(|token| vec![b'a' + token]))
}

fn greedy(prompt: &[u32]) -> DecodeRequest {
    DecodeRequest { prompt: prompt.to_vec(), temperature: 0.0, max_new_tokens: 8, ..Default::default() }
}

fn counting(eos: Vec<u32>) -> Decoder {
    let options = DecoderOptions { threads: 1, token_texts: Some(texts()), ..Default::default() };
    Decoder::new(&counter(20, eos), options).unwrap()
}

#[test]
fn end_of_text_and_stop_tokens_end_a_sample() {
    let mut decoder = counting(vec![19, 5]);
    let stop_token = DecodeRequest { stop_tokens: vec![3], ..greedy(&[0]) };
    let results = decoder.decode(&[greedy(&[0]), stop_token, greedy(&[6])]).unwrap();
    let decoded = &results[0][0];
    assert_eq!((decoded.tokens.as_slice(), decoded.text_tokens), (&[1, 2, 3, 4, 5][..], 4));
    assert_eq!((decoded.finish, decoded.logprobs.len()), (DecodeFinish::EndOfText, 5));
    assert_eq!((results[1][0].tokens.len(), results[1][0].finish), (3, DecodeFinish::EndOfText));
    assert_eq!((results[2][0].text_tokens, results[2][0].finish), (8, DecodeFinish::Length));
}

#[test]
fn stop_strings_end_a_sample_across_tokens() {
    let mut decoder = counting(vec![]);
    let mut settled = Vec::new();
    let request =
        DecodeRequest { stop_strings: vec!["zz".into(), "def".into(), "cde?".into()], ..greedy(&[0]) };
    let results = decoder
        .decode_with(&[request], &mut |event| {
            settled.push(event.settled_tokens);
            ControlFlow::Continue(())
        })
        .unwrap();
    let decoded = &results[0][0];
    assert_eq!(decoded.finish, DecodeFinish::StopString);
    assert_eq!(
        (decoded.tokens.as_slice(), decoded.text_tokens),
        (&[1, 2, 3, 4, 5][..], 2),
        "`bc`, then `def`"
    );
    assert!(decoded.text_tail.is_empty());
    assert_eq!(settled, [1, 1, 1, 1, 2], "`c` may begin `cde?`");
}

#[test]
fn a_text_cut_by_its_length_is_settled() {
    let mut last = 0;
    let request = DecodeRequest { stop_strings: vec!["ij?".into()], ..greedy(&[0]) };
    let results = counting(vec![])
        .decode_with(&[request], &mut |event| {
            last = event.settled_tokens;
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!((last, results[0][0].text_tokens), (8, 8), "nothing can follow, so nothing is held back");
}

#[test]
fn no_tokens_wanted_and_no_room_left_end_at_once() {
    let mut decoder = counting(vec![]);
    let full = DecodeRequest { prompt: vec![1; 160], ..Default::default() };
    let nearly = DecodeRequest { prompt: vec![1; 157], samples: 2, ..Default::default() };
    let none = DecodeRequest { max_new_tokens: 0, samples: 2, ..greedy(&[1]) };
    let nobody = DecodeRequest { samples: 0, ..greedy(&[1]) };
    let results = decoder.decode(&[full, nearly, none, nobody, greedy(&[1])]).unwrap();
    assert_eq!(results.iter().map(Vec::len).collect::<Vec<_>>(), [1, 2, 2, 0, 1]);
    assert_eq!((results[0][0].tokens.len(), results[0][0].finish), (0, DecodeFinish::Length));
    assert!(
        results[1].iter().all(|decoded| decoded.tokens.len() == 3 && decoded.finish == DecodeFinish::Length)
    );
    assert!(results[2].iter().all(|decoded| decoded.tokens.is_empty()));
    assert_eq!(results[4][0].tokens.len(), 8);
}

#[test]
fn breaking_cancels_one_sample_and_no_other() {
    let config = config(50, 40, 4, 4);
    let model = model(&config, 1);
    let request = DecodeRequest {
        prompt: prompt(&config, 20, 1),
        samples: 6,
        max_new_tokens: 12,
        ..Default::default()
    };
    let mut decoder = decoder(&model, 2, 4);
    let expected = decoder.decode(std::slice::from_ref(&request)).unwrap().remove(0);
    let mut seen = [0; 6];
    let results = decoder
        .decode_with(&[request], &mut |event| {
            seen[event.sample] += 1;
            let stop = event.sample == 1 && seen[1] == 5 || event.sample == 4 && seen[4] == 1;
            if stop { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })
        .unwrap()
        .remove(0);
    for (sample, (result, expected)) in results.iter().zip(&expected).enumerate() {
        let length = match sample {
            1 => 5,
            4 => 1,
            _ => 12,
        };
        assert_eq!(result.tokens, expected.tokens[..length], "sample {sample}");
        assert_eq!(result.finish == DecodeFinish::Cancelled, length < 12);
    }
    assert_eq!(decoder.scheduler.pool.used(), 0, "all pages came back");
}

#[test]
fn a_callback_that_panics_leaves_a_working_decoder() {
    let mut decoder = counting(vec![]);
    let requests = vec![DecodeRequest { samples: 200, ..greedy(&[1]) }, greedy(&[2])];
    let mut left = 150;
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        decoder.decode_with(&requests, &mut |_| {
            left -= 1;
            assert!(left > 0, "the callback fails");
            ControlFlow::Continue(())
        })
    }));
    assert!(panicked.is_err());
    let results = decoder.decode(&[greedy(&[0])]).unwrap();
    assert_eq!(results[0][0].tokens, [1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(decoder.scheduler.pool.used(), 0);
}

#[test]
fn unequal_lengths_leave_no_row_idle_while_others_wait() {
    let config = config(50, 40, 4, 4);
    let model = model(&config, 1);
    let requests: Vec<DecodeRequest> = (0..120)
        .map(|i| DecodeRequest {
            prompt: prompt(&config, 1 + i % 9, i as u64),
            samples: 2,
            max_new_tokens: 1 + (i * 37) % 100,
            ..Default::default()
        })
        .collect();
    let mut decoder = decoder(&model, 2, 16);
    let results = decoder.decode(&requests).unwrap();
    let written: usize = results.iter().flatten().map(|decoded| decoded.tokens.len()).sum();
    let counters = decoder.counters();
    assert_eq!(counters.useful_rows + results.iter().flatten().count() as u64, written as u64);
    assert_eq!(counters.step_rows, counters.useful_rows, "no row is computed for an ended sample");
    // The capacity includes the end, when nothing waits any more.
    let idle = 1.0 - counters.useful_rows as f64 / counters.row_capacity as f64;
    assert!(idle < 0.1, "{:.1} % of the rows were idle", idle * 100.0);
    assert_eq!(decoder.scheduler.pool.used(), 0);
}

#[test]
fn hostile_requests_are_refused_with_a_hint() {
    let mut decoder = counting(vec![]);
    let good = greedy(&[1]);
    let cases: Vec<(DecodeRequest, &str)> = vec![
        (greedy(&[]), "empty"),
        (greedy(&[20]), "token 20, the vocabulary has 20"),
        (greedy(&[u32::MAX]), "vocabulary"),
        (greedy(&[1; 161]), "161 positions, the model has 160"),
        (DecodeRequest { samples: usize::MAX, ..good.clone() }, "`samples`"),
        (DecodeRequest { temperature: -1.0, ..good.clone() }, "`temperature` is -1"),
        (DecodeRequest { temperature: f32::NAN, ..good.clone() }, "`temperature`"),
        (DecodeRequest { temperature: f32::INFINITY, ..good.clone() }, "`temperature`"),
        (DecodeRequest { top_p: 0.0, ..good.clone() }, "`top_p` is 0"),
        (DecodeRequest { top_p: f32::NAN, ..good.clone() }, "`top_p`"),
        (DecodeRequest { min_p: 1.5, ..good.clone() }, "`min_p` is 1.5"),
        (DecodeRequest { min_p: f32::NAN, ..good.clone() }, "`min_p`"),
        (DecodeRequest { stop_strings: vec![String::new()], ..good.clone() }, "`stop_strings`"),
    ];
    for (request, part) in cases {
        let message = decoder.decode(&[good.clone(), request]).unwrap_err().to_string();
        assert!(message.contains("request 1") && message.contains(part), "{message}");
        assert!(message.lines().last().unwrap().starts_with("hint: "), "{message}");
    }
    let without = counter(20, vec![]);
    let mut without = Decoder::new(&without, DecoderOptions::default()).unwrap();
    let stop = DecodeRequest { stop_strings: vec!["x".into()], ..good.clone() };
    assert!(without.decode(&[stop]).unwrap_err().to_string().contains("token texts"));
    // Extreme but meaningful.
    let extreme = DecodeRequest {
        top_k: usize::MAX,
        max_new_tokens: usize::MAX,
        first_sample: u64::MAX,
        samples: 2,
        seed: u64::MAX,
        detail: Detail::Top(usize::MAX),
        ..good
    };
    let results = decoder.decode(&[extreme]).unwrap();
    assert_eq!(results[0][0].tokens.len(), 159, "up to the last position");
    assert_eq!(results[0][0].top[0].len(), 20);
}

#[test]
fn hostile_scores_are_refused() {
    let mut decoder = counting(vec![]);
    let request = |prefix: &[u32], continuation: &[u32], with_end| ScoreRequest {
        prefix: prefix.to_vec(),
        continuations: vec![continuation.to_vec()],
        with_end,
        detail: Detail::None,
    };
    assert!(matches!(decoder.score(&[request(&[], &[1], false)]), Err(DecodeError::EmptyPrompt { .. })));
    assert!(matches!(
        decoder.score(&[request(&[1], &[1], true)]),
        Err(DecodeError::NoEndToken { request: 0 })
    ));
    assert!(matches!(decoder.score(&[request(&[1], &[99], false)]), Err(DecodeError::UnknownToken { .. })));
    assert!(matches!(
        decoder.score(&[request(&[1; 100], &[1; 62], false)]),
        Err(DecodeError::TooLong { .. })
    ));
    let longest = decoder.score(&[request(&[1; 100], &[1; 61], false)]).unwrap();
    assert_eq!(longest[0][0].logprobs.len(), 61, "the last token is not read");
    assert_eq!(decoder.score(&[]).unwrap(), Vec::<Vec<Scored>>::new());
    assert!(decoder.label_logprobs(&[vec![1]], &[20]).is_err());
    assert!(decoder.label_logprobs(&[vec![1], vec![]], &[1]).unwrap_err().to_string().contains("request 1"));
    assert_eq!(decoder.label_logprobs(&[vec![1]], &[]).unwrap(), vec![Vec::<f32>::new()]);
    assert_eq!(decoder.scheduler.pool.used(), 0);
}
