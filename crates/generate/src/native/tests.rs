use super::*;
use crate::LogprobDetail;
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
