use super::*;
use crate::{LatentRead, LatentValues, LogprobDetail, Segment, Stretch};
use elenchus_native::{ModelConfig, Precision};
use elenchus_trace::{FinishReason, Message};

fn tokenizer() -> Tokenizer {
    let pieces: Vec<String> = "SDJ0123456789=+-;#?!abcdefg".chars().map(String::from).collect();
    Tokenizer::word_level(&pieces).unwrap()
}

fn weights(seed: u64) -> Model {
    let config = ModelConfig {
        vocab_size: tokenizer().vocabulary_size(),
        hidden_size: 16,
        intermediate_size: 32,
        layers: 2,
        heads: 2,
        kv_heads: 1,
        head_dim: 8,
        rope_theta: 10_000.0,
        rms_norm_eps: 1e-5,
        max_positions: 64,
        tie_embeddings: true,
        qkv_bias: false,
        qk_norm: false,
        eos_token_ids: vec![1],
    };
    let mut model = Model::initialise(config, seed).unwrap();
    // Sharper than a fresh model, so that sampled texts differ from token to token.
    model.parameters.iter_mut().for_each(|number| *number *= 3.0);
    model
}

fn model() -> NativeModel {
    let options = NativeOptions { threads: 1, ..NativeOptions::default() };
    NativeModel::new("tiny", &weights(7), tokenizer(), options).unwrap()
}

fn request(text: &str, samples: usize) -> GenerateRequest {
    let mut request = GenerateRequest { samples, ..GenerateRequest::new(vec![Message::user(text)]) };
    request.sampling.max_tokens = 20;
    request.sampling.seed = 5;
    request
}

#[tokio::test]
async fn samples_do_not_depend_on_what_else_runs() {
    let model = model();
    let wanted = request("Sa=1;b=a+2;b?", 4);
    let alone = model.generate(&wanted).await.unwrap();
    let others: Vec<GenerateRequest> = (0..6).map(|digit| request(&format!("Sa={digit};a?"), 3)).collect();
    let crowd = futures::future::join_all(others.iter().map(|other| model.generate(other)));
    let (among, crowd) = tokio::join!(model.generate(&wanted), crowd);
    assert!(crowd.into_iter().all(|result| result.unwrap().len() == 3));
    let texts = |completions: &[Completion]| completions.iter().map(|c| c.text.clone()).collect::<Vec<_>>();
    assert_eq!(texts(&among.unwrap()), texts(&alone));
    assert!(alone.iter().any(|completion| completion.text != alone[0].text), "samples differ");
}

#[tokio::test]
async fn completions_carry_what_was_asked_for() {
    let model = model();
    for logprobs in
        [LogprobDetail::None, LogprobDetail::Chosen, LogprobDetail::Top(3), LogprobDetail::Distribution]
    {
        let completions =
            model.generate(&GenerateRequest { logprobs, ..request("Sa=1;a?", 2) }).await.unwrap();
        for completion in &completions {
            let tokens = completion.token_ids.len();
            let wanted = |has: bool| if has { tokens } else { 0 };
            assert_eq!(completion.usage.completion_tokens, tokens as u64);
            assert_eq!(completion.logprobs.len(), wanted(logprobs != LogprobDetail::None));
            assert_eq!(completion.top.len(), wanted(logprobs == LogprobDetail::Top(3)));
            assert!(completion.top.iter().all(|top| top.len() == 3));
            assert_eq!(completion.distributions.len(), wanted(logprobs == LogprobDetail::Distribution));
            assert_eq!(completion.vocabulary, Some(tokenizer().vocabulary_size() as u32));
        }
        let usage: Usage = completions.iter().map(|completion| completion.usage).sum();
        assert_eq!((usage.calls, usage.prompt_tokens), (1, 7), "the prompt is shared");
    }
}

#[tokio::test]
async fn scores_are_those_of_the_generation() {
    let model = model();
    let (wanted, completion) = readable(&model).await;
    let ended = completion.finish == FinishReason::Stop;
    let scored = model
        .score(&ScoreRequest {
            messages: wanted.messages.clone(),
            continuations: vec![completion.text.clone(), "1".into()],
            distributions: true,
            with_end: ended,
        })
        .await
        .unwrap();
    assert_eq!(scored[0].logprobs.len(), completion.logprobs.len());
    for (scored, generated) in scored[0].logprobs.iter().zip(&completion.logprobs) {
        assert!((scored - generated).abs() < 1e-4, "{scored} against {generated}");
    }
    assert_eq!(scored[0].distributions.len(), scored[0].logprobs.len());
    assert_eq!(scored.iter().map(|scored| scored.usage.calls).sum::<u64>(), 1);
}

#[tokio::test]
async fn a_stream_says_what_the_whole_answer_says() {
    let model = model();
    let mut wanted = request("Sa=1;a?", 3);
    wanted.sampling.stop = vec!["#".into()];
    let whole = model.generate(&wanted).await.unwrap();
    let mut texts = vec![String::new(); 3];
    let mut stream = model.stream(&wanted).await.unwrap();
    while let Some(event) = stream.next().await {
        match event.unwrap() {
            StreamEvent::Text { index, text } => texts[index].push_str(&text),
            StreamEvent::Done { index, completion } => {
                assert_eq!(completion.text, whole[index].text);
                assert_eq!(completion.token_ids, whole[index].token_ids);
                assert_eq!(texts[index], completion.text, "pieces make the whole");
                assert!(!completion.text.contains('#'), "the stop string is left out");
            }
        }
    }
}

#[tokio::test]
async fn an_assistant_message_at_the_end_is_continued() {
    let model = model();
    let (mut wanted, whole) = readable(&model).await;
    wanted.messages.push(Message::assistant(&whole.text[..3]));
    wanted.sampling.max_tokens -= 3;
    let rest = model.generate(&wanted).await.unwrap().remove(0);
    assert_eq!(rest.text, whole.text[3..], "sampled as if it had never been interrupted");
}

/// A request and its sample whose text says which tokens it is made of: no special token within.
async fn readable(model: &NativeModel) -> (GenerateRequest, Completion) {
    for seed in 0..100 {
        let mut wanted = GenerateRequest { logprobs: LogprobDetail::Chosen, ..request("Sa=1;a?", 1) };
        wanted.sampling.seed = seed;
        let completion = model.generate(&wanted).await.unwrap().remove(0);
        let mut tokens = model.tokenizer().encode(&completion.text).unwrap();
        if completion.finish == FinishReason::Stop {
            tokens.push(1);
        }
        if tokens == completion.token_ids && tokens.len() > 4 {
            return (wanted, completion);
        }
    }
    panic!("no seed of a hundred gives plain text");
}

fn greedy(text: &str) -> GenerateRequest {
    let mut request = request(text, 1);
    request.sampling.temperature = 0.0;
    request
}

#[tokio::test]
async fn what_cannot_be_done_is_said_before() {
    let model = model();
    let error = model.generate(&request("What is love?", 1)).await.unwrap_err().to_string();
    assert!(error.contains("does not know") && error.contains("hint: "), "{error}");
    let mut tools = request("Sa=1;a?", 1);
    tools.tools = vec![serde_json::json!({})];
    assert!(matches!(model.generate(&tools).await, Err(GenerateError::Capability { .. })));
    let error = model.generate(&request(&"a".repeat(100), 1)).await.unwrap_err();
    assert!(matches!(error, GenerateError::Request { .. }), "longer than the model's positions: {error}");
    let mut small = tokenizer();
    small = Tokenizer::word_level(&[small.token_text(3).unwrap()]).unwrap();
    let large = NativeModel::new("m", &weights(1), small, NativeOptions::default());
    assert!(large.is_ok(), "a vocabulary may be padded");
    assert!(model.generate(&request("Sa=1;a?", 0)).await.unwrap().is_empty());
}

#[tokio::test]
async fn swapping_weights_changes_answers_and_fingerprint() {
    let model = model();
    let wanted = request("Sa=1;a?", 1);
    let (before, print) = (model.generate(&wanted).await.unwrap(), model.fingerprint());
    model.swap(&weights(8)).unwrap();
    let after = model.generate(&wanted).await.unwrap();
    assert_ne!(before[0].token_ids, after[0].token_ids);
    assert_ne!(print, model.fingerprint());
    model.swap(&weights(7)).unwrap();
    assert_eq!(print, model.fingerprint());
}

#[tokio::test]
async fn a_dropped_call_leaves_the_engine_to_the_others() {
    let model = model();
    let many = request("Sa=1;a?", 64);
    drop(tokio::time::timeout(std::time::Duration::from_micros(100), model.generate(&many)).await);
    assert_eq!(model.generate(&request("Sa=2;a?", 1)).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_model_folder_is_loaded_by_its_path() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("little");
    let checkpoint = Checkpoint { model: weights(7), tokenizer: Some(tokenizer()) };
    checkpoint.save(&path, Precision::default()).unwrap();
    let loaded = NativeModel::load(&path, NativeOptions::default()).unwrap();
    assert_eq!(loaded.name(), "little");
    assert_eq!(loaded.fingerprint(), model().fingerprint());
    let wanted = greedy("Sa=1;a?");
    let plain = loaded.generate(&wanted).await.unwrap();
    std::fs::write(path.join("chat_template.jinja"), "{{ messages[0].content }}{{ '#' }}").unwrap();
    let templated = NativeModel::load(&path, NativeOptions::default()).unwrap();
    let templated = templated.generate(&wanted).await.unwrap();
    assert_eq!(templated[0].usage.prompt_tokens, plain[0].usage.prompt_tokens + 1, "the template is used");
    let error = NativeModel::load(folder.path().join("none"), NativeOptions::default()).err().unwrap();
    assert!(error.to_string().contains("none"), "the path is named: {error}");
}

fn look(text: &str, continuation: &str, read: LatentRead) -> LatentRequest {
    LatentRequest { messages: vec![Message::user(text)], continuation: continuation.into(), read }
}

async fn attention(model: &NativeModel, rows: Stretch, segments: Vec<Segment>) -> Vec<Vec<f32>> {
    let read = LatentRead::Attention { rows, segments, layer: None };
    match model.latent(&look("Sa=1;b=a+2;b?", "b=3#3", read)).await.unwrap().values {
        LatentValues::Attention(heads) => heads,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn attention_is_divided_over_segments_and_the_rest() {
    let model = model();
    let bytes = |from, to| Segment::Bytes { message: 0, from, to };
    let rows = Stretch::Tokens { from: 4, to: 5 };
    // `Sa=1;b=a+2;b?`: 13 tokens of one byte.
    let heads = attention(&model, rows, vec![bytes(1, 5), bytes(5, 11), bytes(11, 11)]).await;
    assert_eq!(heads.len(), 2, "one row per head");
    for head in &heads {
        assert_eq!(head.len(), 4);
        assert!((head.iter().sum::<f32>() - 1.0).abs() < 1e-5, "a row is divided without loss: {head:?}");
        assert_eq!(head[2], 0.0, "nothing lies in an empty segment");
    }
    // By hand from the engine's own matrices: the row that writes token 4 of the answer is position 13 + 4 - 1.
    let tokens = model.tokenizer().encode("Sa=1;b=a+2;b?b=3#3").unwrap();
    let taps = weights(7).tap(&elenchus_native::Sequence { tokens, first_target: 1 }).unwrap();
    for (head, found) in heads.iter().enumerate() {
        let row = &taps.attention[1][head * 18 * 18 + 16 * 18..][..18];
        for (mass, wanted) in [(found[0], &row[1..5]), (found[1], &row[5..11])] {
            assert!((mass - wanted.iter().sum::<f32>()).abs() < 1e-6);
        }
    }
    let same = attention(&model, Stretch::Bytes { from: 4, to: 5 }, vec![Segment::Tokens { from: 1, to: 5 }]);
    assert_eq!(same.await[0][0], heads[0][0], "tokens and bytes name the same place");
    let wide = Stretch::Tokens { from: 0, to: 5 };
    let all = attention(&model, wide, vec![Segment::Tokens { from: 0, to: 13 }]).await;
    assert!((all[0].iter().sum::<f32>() - 1.0).abs() < 1e-5, "the mean over rows sums to 1, too");
}

#[tokio::test]
async fn a_copying_head_has_its_mass_where_it_copies_from() {
    // A model whose last layer looks only at tokens `d`: queries constant, keys read one direction of the embedding.
    let mut weights = weights(3);
    let tokenizer = tokenizer();
    let d = tokenizer.token_id("d").unwrap() as usize;
    let place = |name: &str, model: &Model| {
        model.layout().parameters().iter().find(|p| p.name == name).unwrap().range.clone()
    };
    let embedding = place("model.embed_tokens.weight", &weights);
    for (index, number) in weights.parameters[embedding].iter_mut().enumerate() {
        let (token, dimension) = (index / 16, index % 16);
        *number = match dimension {
            0 => 1.0,
            1 => f32::from(u8::from(token == d)) * 4.0,
            _ => 0.0,
        };
    }
    for layer in 0..2 {
        for name in ["self_attn.o_proj", "mlp.down_proj"] {
            let range = place(&format!("model.layers.{layer}.{name}.weight"), &weights);
            weights.parameters[range].fill(0.0);
        }
    }
    for (name, dimension) in [("q_proj", 0), ("k_proj", 1)] {
        let range = place(&format!("model.layers.1.self_attn.{name}.weight"), &weights);
        for (index, number) in weights.parameters[range].iter_mut().enumerate() {
            // The slowest pair of each head, so that the distance does not matter.
            let slowest = index / 16 % 8 == 3;
            *number = if slowest && index % 16 == dimension { 9.0 } else { 0.0 };
        }
    }
    let model = NativeModel::new("copy", &weights, tokenizer, NativeOptions::default()).unwrap();
    let segments: Vec<Segment> =
        (0..4).map(|i| Segment::Bytes { message: 0, from: 1 + 3 * i, to: 4 + 3 * i }).collect();
    let read = LatentRead::Attention { rows: Stretch::Tokens { from: 0, to: 1 }, segments, layer: None };
    let reading = model.latent(&look("Sa1;b2;d4;c3;?", "4", read)).await.unwrap();
    let LatentValues::Attention(heads) = reading.values else { panic!("{:?}", reading.values) };
    for head in heads {
        assert!(head[2] > 0.9, "the third segment holds `d`: {head:?}");
    }
    assert_eq!((reading.usage.calls, reading.usage.prompt_tokens), (1, 15));
}

#[tokio::test]
async fn the_last_layer_and_a_mask_of_one_say_what_the_model_says() {
    let model = model();
    let wanted = GenerateRequest { logprobs: LogprobDetail::Chosen, ..greedy("Sa=1;a?#") };
    let next = model.generate(&wanted).await.unwrap().remove(0);
    let tokens = |reading: LatentReading| match reading.values {
        LatentValues::Tokens(tokens) => tokens,
        other => panic!("{other:?}"),
    };
    let layers = tokens(model.latent(&look("Sa=1;a?", "#", LatentRead::Layers)).await.unwrap());
    assert_eq!(
        layers.iter().map(|token| (token.layer, token.head)).collect::<Vec<_>>(),
        [(0, None), (1, None), (2, None)]
    );
    assert_eq!(layers[2].token, next.token_ids[0]);
    assert!((layers[2].logprob - next.logprobs[0]).abs() < 1e-4);
    assert!(layers.iter().all(|token| (0.0..4.0).contains(&token.entropy)));
    let heads = |layers: Vec<usize>, factor| look("Sa=1;a?", "#", LatentRead::Heads { layers, factor });
    let reading = model.latent(&heads(vec![], 1.0)).await.unwrap();
    assert_eq!(reading.usage.prompt_tokens, 4 * 8, "every pass is counted");
    let all = tokens(reading);
    assert_eq!(all.len(), 4, "2 layers of 2 heads");
    assert!(all.iter().all(|token| token.token == next.token_ids[0]), "a factor of 1 changes nothing");
    let silent = tokens(model.latent(&heads(vec![0], 0.0)).await.unwrap());
    assert_eq!(silent.iter().map(|t| (t.layer, t.head)).collect::<Vec<_>>(), [(0, Some(0)), (0, Some(1))]);
    assert!(silent.iter().any(|token| (token.logprob - next.logprobs[0]).abs() > 1e-4));
    let states =
        model.latent(&look("Sa=1;a?", "#", LatentRead::States { layers: vec![0, 2] })).await.unwrap();
    let LatentValues::States(states) = states.values else { panic!("{:?}", states.values) };
    assert!(states.len() == 2 && states.iter().all(|state| state.len() == 16));
}

#[tokio::test]
async fn what_cannot_be_looked_at_is_said() {
    let model = model();
    let rows = Stretch::Tokens { from: 0, to: 1 };
    let bytes = |message, from, to| Segment::Bytes { message, from, to };
    for (segments, rows, word) in [
        (vec![bytes(0, 0, 3), bytes(0, 2, 5)], rows, "overlap"),
        (vec![bytes(0, 2, 99)], rows, "99"),
        (vec![bytes(1, 0, 1)], rows, "message 1"),
        (vec![Segment::Tokens { from: 3, to: 2 }], rows, "3..2"),
        (vec![Segment::Tokens { from: 0, to: 9 }], rows, "0..9"),
        (vec![], Stretch::Tokens { from: 5, to: 9 }, "none of the 1 tokens"),
        (vec![], Stretch::Bytes { from: 1, to: 9 }, "none of the 1 tokens"),
    ] {
        let read = LatentRead::Attention { rows, segments, layer: None };
        let error = model.latent(&look("Sa=1;a?", "1", read)).await.unwrap_err().to_string();
        assert!(error.contains(word) && error.contains("hint: "), "{word}: {error}");
    }
    let far = LatentRead::Attention { rows, segments: vec![], layer: Some(2) };
    let masks = LatentRead::Heads { layers: vec![2], factor: 0.0 };
    for read in [far, masks, LatentRead::States { layers: vec![3] }] {
        let error = model.latent(&look("Sa=1;a?", "1", read)).await.unwrap_err().to_string();
        assert!(error.contains("hint: "), "{error}");
    }
    assert!(model.latent(&look("What?", "1", LatentRead::Layers)).await.is_err());
}

#[tokio::test]
async fn looks_inside_follow_the_weights_in_use() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("little");
    let save = |seed| {
        let checkpoint = Checkpoint { model: weights(seed), tokenizer: Some(tokenizer()) };
        checkpoint.save(&path, Precision::default()).unwrap();
    };
    save(7);
    let loaded = NativeModel::load(&path, NativeOptions::default()).unwrap();
    let request = look("Sa=1;a?", "1", LatentRead::States { layers: vec![2] });
    save(8);
    let error = loaded.latent(&request).await.unwrap_err().to_string();
    assert!(error.contains("were changed since"), "other weights are not passed off as these: {error}");
    save(7);
    let first = loaded.latent(&request).await.unwrap().values;
    assert_eq!(first, model().latent(&request).await.unwrap().values);
    loaded.swap(&weights(8)).unwrap();
    assert_ne!(loaded.latent(&request).await.unwrap().values, first);
}

#[tokio::test]
async fn segments_are_found_behind_a_template() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("little");
    Checkpoint { model: weights(7), tokenizer: Some(tokenizer()) }.save(&path, Precision::default()).unwrap();
    std::fs::write(path.join("chat_template.jinja"), "{{ '##' }}{{ messages[0].content | trim }}{{ '?' }}")
        .unwrap();
    let templated = NativeModel::load(&path, NativeOptions::default()).unwrap();
    let read =
        |segments| LatentRead::Attention { rows: Stretch::Tokens { from: 0, to: 1 }, segments, layer: None };
    let bytes = look(" Sa=1", "1", read(vec![Segment::Bytes { message: 0, from: 2, to: 5 }]));
    let tokens = look(" Sa=1", "1", read(vec![Segment::Tokens { from: 3, to: 6 }]));
    let (bytes, tokens) = (templated.latent(&bytes).await.unwrap(), templated.latent(&tokens).await.unwrap());
    assert_eq!(bytes.values, tokens.values, "bytes of the message, white space that was dropped included");
}

#[tokio::test]
async fn an_embedding_is_the_mean_of_the_last_states_of_its_text() {
    let model = model();
    let texts = ["Sa=1;", "b?", ""].map(String::from);
    let vectors = model.embed(&texts).await.unwrap();
    let tokens = model.tokenizer().encode("Sa=1;").unwrap();
    let taps = weights(7).tap(&elenchus_native::Sequence { tokens, first_target: 1 }).unwrap();
    for (place, value) in vectors[0].iter().enumerate() {
        let states = (0..taps.tokens).map(|token| taps.last[token * taps.hidden_size + place]);
        assert!((states.sum::<f32>() / taps.tokens as f32 - value).abs() < 1e-5);
    }
    assert_eq!(vectors[2], vec![0.0; 16], "an empty text has no states");
    assert_ne!(vectors[0], vectors[1]);
    model.swap(&weights(8)).unwrap();
    assert_ne!(model.embed(&texts).await.unwrap()[0], vectors[0], "of the weights in use");
    assert!(model.embed(&["%".to_string()]).await.is_err(), "a sign it does not know is an error");
}

#[tokio::test]
async fn a_last_word_that_is_continued_is_written_as_the_model_finds_it_likelier() {
    let pieces: Vec<String> =
        ["ask", "cook", "a", "s", "k", "c", "o", ",", ".", "S", "?"].map(String::from).into();
    let tokenizer = Tokenizer::word_level(&pieces).unwrap();
    let word = tokenizer.token_id("ask").unwrap();
    let letters = tokenizer.spelled(word).unwrap();
    assert_eq!(letters, tokenizer.encode("a,s,k").unwrap().into_iter().step_by(2).collect::<Vec<u32>>());
    assert_eq!(tokenizer.spelled(letters[0]), None, "a letter is one already");
    let mut spelled = 0;
    for seed in 0..8 {
        let config = ModelConfig { vocab_size: tokenizer.vocabulary_size(), ..weights(1).config().clone() };
        let mut weights = Model::initialise(config, seed).unwrap();
        weights.parameters.iter_mut().for_each(|number| *number *= 3.0);
        if seed % 2 == 1 {
            // Every token writes one direction of the embedding, and the word is against it: it is never said whole.
            let width = weights.config().hidden_size;
            for (token, row) in
                weights.parameters.chunks_mut(width).take(tokenizer.vocabulary_size()).enumerate()
            {
                row[0] = if token == word as usize { -5.0 } else { 5.0 };
            }
        }
        let options = NativeOptions { threads: 1, ..NativeOptions::default() };
        let model = NativeModel::new("tiny", &weights, tokenizer.clone(), options).unwrap();
        let prefix = tokenizer.encode("S?,").unwrap();
        let scored = model
            .service()
            .score(vec![elenchus_native::ScoreRequest {
                prefix: prefix.clone(),
                continuations: vec![vec![word], letters.clone()],
                with_end: false,
                detail: Detail::Chosen,
            }])
            .unwrap();
        let sum = |place: usize| scored[0][place].logprobs.iter().sum::<f32>();
        let likelier = if sum(1) > sum(0) { letters.clone() } else { vec![word] };
        spelled += usize::from(likelier.len() > 1);
        let request = |messages| {
            let mut request = GenerateRequest::new(messages);
            (request.sampling.max_tokens, request.logprobs) = (6, LogprobDetail::Chosen);
            request
        };
        let continued = request(vec![Message::user("S?"), Message::assistant(",ask")]);
        let decoding = model.decode_request(&continued).await.unwrap();
        assert_eq!(decoding.prompt, [prefix.clone(), likelier].concat(), "seed {seed}");
        let told = model.decode_request(&request(vec![Message::user("S?,ask")])).await.unwrap();
        assert_eq!(told.prompt, [prefix, vec![word]].concat(), "what nobody continues stands as it is read");
    }
    assert!((1..8).contains(&spelled), "both ways were seen: {spelled} of 8");
}
