//! Log-probabilities are right, and the same bits in every batch.

use super::super::pace::Division;
use super::*;

/// All log-probabilities and statistics are within this of the definition.
const TOLERANCE: f64 = 1e-4;

fn close(a: f32, b: f64, what: &str) {
    assert!((f64::from(a) - b).abs() < TOLERANCE, "{what}: {a} is not {b}");
}

#[test]
fn cached_decoding_equals_full_recomputation() {
    for (name, config) in variants() {
        let model = model(&config, 1);
        // Prompts around the borders of a page, and long ones.
        for length in [1, 15, 16, 17, 40] {
            let request = DecodeRequest {
                prompt: prompt(&config, length, length as u64),
                samples: 5,
                seed: 3,
                max_new_tokens: 40,
                detail: Detail::All(4),
                ..Default::default()
            };
            let results = decoder(&model, 2, 64).decode(std::slice::from_ref(&request)).unwrap();
            assert_eq!(results[0].len(), 5);
            for decoded in &results[0] {
                assert_eq!(decoded.tokens.len(), 40);
                assert_eq!(decoded.finish, DecodeFinish::Length);
                let whole: Vec<u32> = request.prompt.iter().chain(&decoded.tokens).copied().collect();
                let expected = reference(&model, &whole);
                for (i, &token) in decoded.tokens.iter().enumerate() {
                    let row = &expected[length + i - 1];
                    close(decoded.logprobs[i], row[token as usize], name);
                    let mut order: Vec<usize> = (0..config.vocab_size).collect();
                    order.sort_by(|&a, &b| row[b].total_cmp(&row[a]));
                    for (&(_, logprob), &expected) in decoded.top[i].iter().zip(&order) {
                        close(logprob, row[expected], "top");
                    }
                    let size = config.vocab_size as f64;
                    let statistics = decoded.distributions[i];
                    let kl = -row.iter().map(|logprob| size.ln() + logprob).sum::<f64>() / size;
                    close(statistics.kl_from_uniform, kl, "kl");
                    close(statistics.entropy, -row.iter().map(|l| l.exp() * l).sum::<f64>(), "entropy");
                    close(statistics.gini, row.iter().map(|l| (2.0 * l).exp()).sum::<f64>(), "gini");
                    close(statistics.max_logprob, row[order[0]], "max");
                }
            }
        }
    }
}

#[test]
fn a_sample_does_not_depend_on_batch_threads_or_order() {
    for (name, config) in variants() {
        let model = model(&config, 2);
        let requests: Vec<DecodeRequest> = (0..7)
            .map(|i| DecodeRequest {
                prompt: prompt(&config, 3 + 9 * i, i as u64),
                samples: 1 + i * 5 % 7,
                seed: 100 + i as u64,
                max_new_tokens: 3 + 13 * i % 40,
                temperature: [1.0, 0.7, 0.0][i % 3],
                top_p: [1.0, 0.9][i % 2],
                top_k: [0, 0, 9][i % 3],
                min_p: [0.0, 0.0, 0.02][(i + 1) % 3],
                detail: Detail::All(3),
                ..Default::default()
            })
            .collect();
        let expected = decoder(&model, 1, 1).decode(&requests).unwrap();
        for (threads, rows, only) in [
            (1, 64, None),
            (2, 64, None),
            (2, 64, Some(Division::Alone)),
            (2, 64, Some(Division::Columns)),
            (2, 64, Some(Division::Rows)),
            (3, 17, Some(Division::Columns)),
            (3, 17, Some(Division::Rows)),
            (2, 1, Some(Division::Columns)),
        ] {
            let mut decoder = decoder(&model, threads, rows);
            decoder.scheduler.workspace.pace.only = only;
            let results = decoder.decode(&requests).unwrap();
            assert!(results == expected, "{name}: {threads} threads with {rows} rows, {only:?}");
        }
        let mut reversed: Vec<DecodeRequest> = requests.clone();
        reversed.reverse();
        let mut results = decoder(&model, 2, 20).decode(&reversed).unwrap();
        results.reverse();
        assert!(results == expected, "{name}: reversed order");
        // Sample 2 alone, as the first sample of another request.
        let alone = DecodeRequest { samples: 1, first_sample: 2, ..requests[4].clone() };
        let result = decoder(&model, 2, 20).decode(&[alone]).unwrap();
        assert!(result[0][0] == expected[4][2], "{name}: one sample alone");
    }
}

#[test]
fn a_generation_resumed_from_its_own_prefix_goes_on_the_same() {
    let (_, config) = variants().swap_remove(1);
    let model = model(&config, 3);
    let whole =
        DecodeRequest { prompt: prompt(&config, 10, 1), max_new_tokens: 30, seed: 5, ..Default::default() };
    let mut decoder = decoder(&model, 2, 4);
    let first = decoder.decode(std::slice::from_ref(&whole)).unwrap().remove(0).remove(0);
    for cut in [1, 6, 7, 29] {
        let mut resumed = whole.clone();
        resumed.prompt.extend(&first.tokens[..cut]);
        resumed.max_new_tokens -= cut;
        let rest = decoder.decode(&[resumed]).unwrap().remove(0).remove(0);
        assert_eq!(rest.tokens, first.tokens[cut..], "cut after {cut}");
        assert!(rest.logprobs == first.logprobs[cut..], "same bits after {cut}");
    }
}

#[test]
fn scores_equal_what_decoding_said() {
    for (name, config) in variants() {
        let config = ModelConfig { eos_token_ids: vec![7], max_positions: 700, ..config };
        let model = model(&config, 4);
        let mut decoder = decoder(&model, 2, 16);
        let requests: Vec<ScoreRequest> = [1, 16, 37]
            .iter()
            .map(|&length| ScoreRequest {
                prefix: prompt(&config, length, 9),
                continuations: vec![prompt(&config, 5, 1), vec![], prompt(&config, 33, 2), vec![3]],
                with_end: length != 16,
                detail: Detail::Distribution,
            })
            .collect();
        let results = decoder.score(&requests).unwrap();
        for (request, scored) in requests.iter().zip(&results) {
            for (continuation, scored) in request.continuations.iter().zip(scored) {
                let mut whole: Vec<u32> = request.prefix.iter().chain(continuation).copied().collect();
                let end = request.with_end.then_some(7);
                let expected = reference(&model, &whole);
                whole.extend(end);
                let targets = &whole[request.prefix.len()..];
                assert_eq!(scored.logprobs.len(), targets.len(), "{name}");
                assert_eq!(scored.distributions.len(), targets.len(), "{name}");
                let mut total = 0.0;
                for (i, &token) in targets.iter().enumerate() {
                    let logprob = expected[request.prefix.len() + i - 1][token as usize];
                    close(scored.logprobs[i], logprob, name);
                    total += logprob;
                }
                assert!((scored.total() - total).abs() < 1e-3);
            }
        }
        // The bits of decoding.
        let request = DecodeRequest {
            prompt: requests[2].prefix.clone(),
            samples: 3,
            max_new_tokens: 20,
            ..Default::default()
        };
        let decoded = decoder.decode(&[request]).unwrap().remove(0);
        let request = ScoreRequest {
            prefix: requests[2].prefix.clone(),
            continuations: decoded.iter().map(|decoded| decoded.tokens.clone()).collect(),
            ..Default::default()
        };
        let scored = decoder.score(&[request]).unwrap().remove(0);
        for (decoded, scored) in decoded.iter().zip(&scored) {
            let ended = decoded.finish == DecodeFinish::EndOfText;
            assert!(decoded.logprobs == scored.logprobs, "{name}, ended {ended}");
        }
    }
}

#[test]
fn training_and_decoding_agree() {
    for (name, config) in variants() {
        let mut model = model(&config, 8);
        let targets = vec![crate::Linear::Query, crate::Linear::Down];
        let lora = crate::LoraConfig { rank: 3, targets, ..Default::default() };
        let mut adapter = crate::LoraAdapter::new(&config, lora, 1).unwrap();
        adapter.numbers.iter_mut().enumerate().for_each(|(i, x)| *x = ((i * 37 % 101) as f32 - 50.0) * 0.002);
        for adapter in [None, Some(adapter)] {
            model.adapter = adapter;
            let request = DecodeRequest {
                prompt: prompt(&config, 21, 4),
                samples: 3,
                max_new_tokens: 30,
                ..Default::default()
            };
            let decoded = decoder(&model, 2, 8).decode(std::slice::from_ref(&request)).unwrap().remove(0);
            let sequences: Vec<crate::Sequence> = decoded
                .iter()
                .map(|decoded| crate::Sequence::continuation(&request.prompt, &decoded.tokens))
                .collect();
            let outputs = model.logprobs(&sequences, &crate::ForwardOptions::default()).unwrap();
            for (decoded, output) in decoded.iter().zip(&outputs) {
                for (&decoded, &trained) in decoded.logprobs.iter().zip(&output.logprobs) {
                    close(decoded, f64::from(trained), name);
                }
            }
        }
    }
}

#[test]
fn long_texts_are_read_in_several_passes() {
    let config = ModelConfig { max_positions: 1300, layers: 1, ..config(40, 24, 2, 1) };
    let model = model(&config, 5);
    let tokens = prompt(&config, 1200, 3);
    let expected = reference(&model, &tokens);
    let mut decoder = decoder(&model, 2, 16);
    // Two prompts in a row so that the second begins within a pass; continuations longer than a pass.
    let request = |cut: usize| ScoreRequest {
        prefix: tokens[..cut].to_vec(),
        continuations: vec![tokens[cut..].to_vec(), tokens[cut..cut + 3].to_vec()],
        ..Default::default()
    };
    let results = decoder.score(&[request(700), request(5)]).unwrap();
    for (scored, cut) in results.iter().zip([700, 5]) {
        for scored in scored {
            for (i, &logprob) in scored.logprobs.iter().enumerate() {
                close(logprob, expected[cut + i - 1][tokens[cut + i] as usize], "long");
            }
        }
        assert_eq!(scored[0].logprobs.len(), 1200 - cut);
        assert!(scored[0].logprobs[..3] == scored[1].logprobs[..]);
    }
    let labels = decoder.label_logprobs(&[tokens[..1200].to_vec(), tokens[..3].to_vec()], &[1, 0]).unwrap();
    for (row, length) in labels.iter().zip([1200, 3]) {
        close(row[0], expected[length - 1][1], "label");
        close(row[1], expected[length - 1][0], "label");
    }
}

#[test]
fn all_processor_families_agree() {
    for (name, config) in variants() {
        let model = model(&config, 6);
        let request = DecodeRequest {
            prompt: prompt(&config, 21, 1),
            samples: 6,
            max_new_tokens: 12,
            detail: Detail::Distribution,
            ..Default::default()
        };
        let mut expected: Option<Vec<Decoded>> = None;
        for kernels in Kernels::available() {
            let decoded =
                decoder_on(&model, kernels).decode(std::slice::from_ref(&request)).unwrap().remove(0);
            let Some(expected) = &expected else {
                expected = Some(decoded);
                continue;
            };
            if kernels.name == "portable" {
                // Without a fused multiply-add the last bits differ, and a sample may in time.
                for (a, b) in decoded.iter().zip(expected) {
                    if a.tokens == b.tokens {
                        for (a, b) in a.logprobs.iter().zip(&b.logprobs) {
                            assert!((a - b).abs() < 1e-4, "{name}: {} gives {a}, not {b}", kernels.name);
                        }
                    }
                }
                assert_eq!(decoded[0].tokens[0], expected[0].tokens[0], "{name}");
            } else {
                assert!(decoded == *expected, "{name}: {} differs", kernels.name);
            }
        }
    }
}

#[test]
fn new_weights_give_new_numbers_and_other_shapes_are_refused() {
    let config = config(50, 40, 4, 4);
    let (old, new) = (model(&config, 1), model(&config, 2));
    let request =
        DecodeRequest { prompt: prompt(&config, 20, 1), samples: 3, max_new_tokens: 9, ..Default::default() };
    let mut swapped = decoder(&old, 2, 8);
    let before = swapped.decode(std::slice::from_ref(&request)).unwrap();
    swapped.swap(&new).unwrap();
    let after = swapped.decode(std::slice::from_ref(&request)).unwrap();
    assert!(after != before);
    assert!(after == decoder(&new, 1, 8).decode(std::slice::from_ref(&request)).unwrap());
    let other = model(&super::config(51, 40, 4, 4), 1);
    assert_eq!(swapped.swap(&other), Err(DecodeError::OtherShape));
    assert!(after == swapped.decode(&[request]).unwrap(), "a refused swap changes nothing");
}

#[test]
fn weights_that_are_no_numbers_neither_panic_nor_stay() {
    let config = config(50, 40, 4, 4);
    let good = model(&config, 1);
    let mut bad = good.clone();
    bad.parameters.iter_mut().for_each(|x| *x = f32::NAN);
    let request = DecodeRequest {
        prompt: prompt(&config, 20, 1),
        samples: 2,
        max_new_tokens: 9,
        top_p: 0.9,
        detail: Detail::All(2),
        ..Default::default()
    };
    let mut decoder = decoder(&bad, 2, 8);
    let decoded = decoder.decode(std::slice::from_ref(&request)).unwrap();
    assert!(decoded[0][0].logprobs[0].is_nan());
    decoder.swap(&good).unwrap();
    let decoded = decoder.decode(&[request]).unwrap();
    assert!(decoded[0].iter().all(|decoded| decoded.logprobs.iter().all(|l| l.is_finite())));
}
